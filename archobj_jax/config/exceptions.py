"""Undoes what gin does to exceptions."""


def unwrapped(error: BaseException) -> BaseException:
    """The exception as it was raised.

    Gin raises, in place of an exception that passes through it, a subclass of the same name made on
    the spot whose message carries gin's own notes; the first is its context.
    """
    context = error.__context__
    while context is not None and type(error).__bases__ == (type(context),):
        error, context = context, context.__context__
    return error
