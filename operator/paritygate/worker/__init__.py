"""What runs as a stage: assess, convert, validate. Each reads a request and writes one folder."""
