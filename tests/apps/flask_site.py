"""An ordinary Flask app."""

import secrets

import flask

application = flask.Flask(__name__)
application.secret_key = "only for tests"


@application.get("/")
def index():
    return f"hello {flask.request.args.get('name', 'world')}"


@application.route("/user/<name>/posts/<int:number>")
def post(name, number):
    return flask.jsonify(name=name, number=number, url=flask.url_for("index"))


@application.get("/count")
def count():
    flask.session["count"] = flask.session.get("count", 0) + 1
    return str(flask.session["count"])


@application.post("/form")
def form():
    return flask.jsonify(flask.request.form.to_dict())


@application.post("/json")
def from_json():
    return flask.jsonify(flask.request.get_json())


@application.post("/upload")
def upload():
    file = flask.request.files["file"]
    size, total = 0, 0
    while piece := file.stream.read(65536):
        size += len(piece)
        total = (total + sum(piece[::4096])) % 65521
    return flask.jsonify(name=file.filename, size=size, total=total)


@application.get("/stream")
def stream():
    return flask.Response((f"line {n}\n" for n in range(1000)), mimetype="text/plain")


@application.get("/file")
def file():
    return flask.send_file(flask.request.args["path"], conditional=True)


@application.get("/fails")
def fails():
    raise ValueError("a failing view")


@application.get("/redirect")
def redirect():
    return flask.redirect(flask.url_for("index", name="there"))


@application.get("/login")
def form_of_login():
    token = flask.session["token"] = secrets.token_hex(16)
    return f'<input name="token" value="{token}">'


def check_token():
    token = flask.request.form.get("token")
    if not token or token != flask.session.pop("token", ""):
        flask.abort(403)


@application.post("/login")
def login():
    check_token()
    flask.session["user"] = flask.request.form["user"]
    return flask.redirect(flask.url_for("user"))


@application.get("/user")
def user():
    return flask.session.get("user", "nobody")


@application.post("/own/upload")
def own_upload():
    check_token()
    if "user" not in flask.session:
        flask.abort(403)
    return upload()


@application.get("/away")
def away():
    return flask.redirect(flask.url_for("count", _external=True))


@application.get("/external")
def external():
    return flask.url_for("index", _external=True)
