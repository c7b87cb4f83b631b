from tests.quick_compiler import quick_compiler  # noqa: F401
