"""Keeps what belongs to one request and uses it in the next one; the path chooses."""

TEXT = ("Content-Type", "text/plain")
kept = {}


def use(name):
    if name == "input-read":
        return kept["environ"]["wsgi.input"].read()
    if name == "input-readline":
        return kept["environ"]["wsgi.input"].readline()
    if name == "input-readlines":
        return kept["environ"]["wsgi.input"].readlines()
    if name == "input-iterate":
        return list(kept["environ"]["wsgi.input"])
    if name == "start_response":
        return kept["start_response"]("200 OK", [TEXT])
    if name == "write":
        return kept["write"](b"late")
    if name == "early_hints":
        return kept["environ"]["wsgi.early_hints"]([("Link", "</late>")])
    return None


def application(environ, start_response):
    name = environ["PATH_INFO"][1:]
    if name == "keep":
        kept["environ"] = environ
        kept["start_response"] = start_response
        kept["write"] = start_response("200 OK", [TEXT])
        return [b"kept"]
    try:
        use(name)
        body = b"nothing was raised"
    except Exception as error:
        body = f"raised {type(error).__name__}".encode()
    start_response("200 OK", [TEXT])
    return [body]
