"""The verbs of the command line as Python functions, so that a notebook reads like the command line.

`from harness import verbs; verbs.leaderboard(study="demo")`. Nothing heavy is imported before a verb is called.
"""

from harness.pretraining.pretrain import pretrain
from harness.verbs.answers import compare, importance, leaderboard, reference, report
from harness.verbs.backbones import check_backbone, embed
from harness.verbs.bench import bench_backbone
from harness.verbs.demonstration import demo
from harness.verbs.gate import baseline_export, regress, select, select_check, select_freeze
from harness.verbs.listing import ls
from harness.verbs.recordings import data_doctor, data_download, data_generate, data_index, data_own
from harness.verbs.scores import detect, score, submit
from harness.verbs.stores import sync
from harness.verbs.studies import study_ls, study_plan, study_run, study_status
from harness.verbs.trials import label, trial
from harness.verbs.weights import weights_check, weights_download, weights_ls

__all__ = [
    "baseline_export", "bench_backbone", "check_backbone", "compare", "data_doctor", "data_download",
    "data_generate", "data_index", "data_own", "demo", "detect", "embed", "importance", "label", "leaderboard", "ls",
    "pretrain", "reference", "regress", "report", "score", "select", "select_check", "select_freeze", "study_ls",
    "study_plan", "study_run", "study_status", "submit", "sync", "trial", "weights_check", "weights_download",
    "weights_ls",
]  # fmt: skip
