"""What a dictionary must be asked, and the controls beside each answer."""

from skfactors._lazy import attach

_HOMES = {
    "CONTROLS": "skfactors.evaluations.controls",
    "EVALUATIONS": "skfactors.evaluations.suite",
    "EvaluationReport": "skfactors.evaluations.evaluation_report",
    "PipelineJudge": "skfactors.evaluations.judges",
    "ServerJudge": "skfactors.evaluations.judges",
    "Superposition": "skfactors.evaluations.superposition",
    "evaluate": "skfactors.evaluations.suite",
    "ground_truth": "skfactors.evaluations.truth",
    "judge_names": "skfactors.evaluations.names",
    "loss_recovered": "skfactors.evaluations.loss",
    "make_superposition": "skfactors.evaluations.superposition",
    "name_factors": "skfactors.evaluations.names",
    "random_control": "skfactors.evaluations.controls",
    "stability": "skfactors.evaluations.again",
}
__all__ = list(_HOMES)
__getattr__, __dir__ = attach(__name__, _HOMES)
