"""Each class of workers beside Gunicorn's of the same name: `python -m bench.classes`."""
