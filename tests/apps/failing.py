"""Apps that go wrong; the case is chosen by the path. /fine goes right."""

TEXT = [("Content-Type", "text/plain")]
SIZED = [("Content-Type", "text/plain"), ("Content-Length", "100")]


class Failure(Exception):
    pass


def fine(start_response):
    start_response("200 OK", TEXT)
    return [b"fine"]


def at_once(start_response):
    raise Failure("secret words")


def after_start_response(start_response):
    start_response("200 OK", TEXT)
    raise Failure("secret words")


def at_first_piece(start_response):
    start_response("200 OK", TEXT)

    def pieces():
        raise Failure("secret words")
        yield b""

    return pieces()


def after_empty_piece(start_response):
    start_response("200 OK", TEXT)
    yield b""
    raise Failure("secret words")


def after_a_piece(start_response):
    start_response("200 OK", TEXT)
    yield b"sent"
    raise Failure("secret words")


def after_a_piece_sized(start_response):
    start_response("200 OK", SIZED)
    yield b"sent"
    raise Failure("secret words")


def system_exit(start_response):
    raise SystemExit(3)


def system_exit_later(start_response):
    start_response("200 OK", TEXT)
    yield b"sent"
    raise SystemExit(3)


def generator_exit(start_response):
    raise GeneratorExit


def keyboard_interrupt(start_response):
    raise KeyboardInterrupt


def stop_iteration(start_response):
    raise StopIteration


def recursion(start_response):
    return recursion(start_response)


def memory(start_response):
    raise MemoryError


def bad_repr(start_response):
    class Worse(Exception):
        def __str__(self):
            raise ValueError("no text for you")

        __repr__ = __str__

    raise Worse


def none(start_response):
    start_response("200 OK", TEXT)


def number(start_response):
    start_response("200 OK", TEXT)
    return 5


def text_piece(start_response):
    start_response("200 OK", TEXT)
    return ["text"]


def number_piece(start_response):
    start_response("200 OK", TEXT)
    return [5]


def none_piece(start_response):
    start_response("200 OK", TEXT)
    return [None]


def string(start_response):
    start_response("200 OK", TEXT)
    return "a string is an iterable of strings"


def text_piece_later(start_response):
    start_response("200 OK", TEXT)
    yield b"sent"
    yield "text"


def no_start_response(start_response):
    return [b"body"]


def no_start_response_empty(start_response):
    return []


def no_start_response_generator(start_response):
    yield b"body"


def iter_fails(start_response):
    class Bad:
        def __iter__(self):
            raise Failure("secret words")

    start_response("200 OK", TEXT)
    return Bad()


def close_fails(start_response):
    class Pieces(list):
        def close(self):
            raise Failure("close failed")

    start_response("200 OK", [*TEXT, ("Content-Length", "4")])
    return Pieces([b"body"])


def length_fails(start_response):
    class Pieces(list):
        def __len__(self):
            raise Failure("len failed")

    start_response("200 OK", TEXT)
    return Pieces([b"body"])


def application(environ, start_response):
    name = environ["PATH_INFO"][1:]
    case = globals().get(name, fine)
    return case(start_response)
