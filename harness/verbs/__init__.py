"""The verbs of the command line as Python functions, so that a notebook reads like the command line."""

from harness.verbs.all_ import *  # noqa: F403 - hands the verbs on
