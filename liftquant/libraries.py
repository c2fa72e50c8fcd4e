"""Settings of libraries that only the command line may change."""


def quiet_transformers() -> None:
    """No bars or advice from transformers: our own progress says where we are."""
    import warnings

    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    warnings.filterwarnings("ignore", module="transformers")
