"""Beam's pipeline options, passed on as they are, and told of where Beam would only log."""

import argparse
import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import apache_beam as beam
from apache_beam.options import pipeline_options as beam_options

from archobj_jax.data.publishing import is_bucket
from archobj_jax.errors import UserError, did_you_mean

_FLAG = "--pipeline_options"


def new_pipeline(text: str, folders: Sequence[Path]) -> beam.Pipeline:
    """Returns an empty pipeline with the options in `text`.

    Args:
      text: options as `seqio_cache_tasks` has them, `--NAME=VALUE` separated by commas; one whose
        value has commas stands in double quotes.
      folders: what the pipeline writes to.

    Raises:
      UserError: an option or a runner that Beam does not know, one that is missing, values that
        are not what they must be, or a folder that the runner's workers cannot reach.
    """
    options = beam_options.PipelineOptions(_parsed(text))
    runner = options.view_as(beam_options.StandardOptions).runner or ""
    try:
        pipeline = beam.Pipeline(options=options)
    except (ValueError, ImportError, AttributeError) as error:  # in this order: options, runner
        hint = did_you_mean(runner, beam_options.StandardOptions.KNOWN_RUNNER_NAMES)
        raise UserError(f"{_FLAG}: {' '.join(str(error).split())}{hint}") from error
    if "dataflow" in runner.lower():
        _check_dataflow(folders)
    return pipeline


def _check_dataflow(folders: Sequence[Path]) -> None:
    """Checks here what Beam would notice when the pipeline starts, or at its end."""
    local = [folder for folder in folders if not is_bucket(folder)]
    if local:
        raise UserError(
            f"{_FLAG}: Dataflow's workers cannot write to {local[0]}, a folder of this machine; "
            "expected CACHE_DIR in a bucket, gs://BUCKET/FOLDER, to be mounted for training"
        )
    try:
        import apache_beam.runners.dataflow.internal.apiclient  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"{_FLAG}: Dataflow needs a client that is not installed ({error}): pip install "
            "'apache-beam[gcp]'"
        ) from error


def _parsed(text: str) -> list[str]:
    """Returns the flags in `text`, which are all known to Beam and have values as it takes them."""
    flags = [flag.strip() for flag in next(csv.reader([text]), []) if flag.strip()]

    def error(message: str) -> NoReturn:
        raise UserError(f"{_FLAG}: {message}; expected Beam's own options, separated by commas")

    def check(parser: argparse.ArgumentParser) -> None:
        parser.error = error  # type: ignore[method-assign]  # argparse prints usage and exits
        unknown = parser.parse_known_args(flags)[1]
        if unknown:
            name = unknown[0].partition("=")[0]
            known = re.findall(r"--\w+", parser.format_usage())
            error(f"Beam has no option '{name}'.{did_you_mean(name, known)}".rstrip("."))

    beam_options.PipelineOptions(flags).get_all_options(add_extra_args_fn=check)
    return flags
