"""Open Inference Protocol server on onnxruntime: raw ASGI on uvicorn, no framework.

    __main__   command line, exit status          lifecycle  listening, loading, draining, signals
    app        routes and limits                  http       HTTP/1.1 limits and errors as JSON
    inference  one request from bytes to bytes    protocol   the envelope of a request and of a response
    json_tensors, binary_tensors, datatypes       the two encodings of a tensor
    model      signature, session, running        signature  what a tensor must look like
    guards     what the source refuses            golden     answers that must come out before readiness
    identity   what the answers depend on         logs       JSON lines on standard error

docs/reference/server.md describes it from outside.
"""
