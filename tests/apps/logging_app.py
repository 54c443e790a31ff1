"""Says things in every way an app can; the path is how, the query is what."""

import logging
import sys

logging.getLogger("gunicorn.error").warning("imported")

# As Flask apps do.
borrowed = logging.getLogger("app")
borrowed.propagate = False


def say(how, what, environ):
    if how == "errors":
        environ["wsgi.errors"].write(what + "\n")
    elif how == "print":
        print(what)
    elif how == "stderr":
        print(what, file=sys.stderr)
    elif how == "borrow":
        gunicorn = logging.getLogger("gunicorn.error")
        borrowed.handlers = gunicorn.handlers
        borrowed.setLevel(gunicorn.level)
        borrowed.info(what)
    elif how == "exception":
        try:
            raise ValueError(what)
        except ValueError:
            logging.getLogger("gunicorn.error").exception("caught")
    else:
        name, _, level = how.partition("-")
        logging.getLogger(f"{name}.error").log(getattr(logging, level.upper()), what)


def application(environ, start_response):
    say(environ["PATH_INFO"][1:], environ["QUERY_STRING"], environ)
    start_response("200 OK", [("Content-Length", "0")])
    return []
