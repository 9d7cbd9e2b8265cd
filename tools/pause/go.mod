module paritygate.dev/pause

go 1.26.0
