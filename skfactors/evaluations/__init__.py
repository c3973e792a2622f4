"""What a dictionary must be asked, and the controls beside each answer."""

from skfactors._lazy import attach

_HOMES = {
    "CONTROLS": "skfactors.evaluations.controls",
    "EVALUATIONS": "skfactors.evaluations.registry",
    "EvaluationReport": "skfactors.evaluations.evaluation_report",
    "PipelineJudge": "skfactors.evaluations.judges",
    "ServerJudge": "skfactors.evaluations.judges",
    "Superposition": "skfactors.evaluations.superposition",
    "absorption": "skfactors.evaluations.absorbing",
    "evaluate": "skfactors.evaluations.suite",
    "frozen_control": "skfactors.evaluations.frozen",
    "ground_truth": "skfactors.evaluations.truth",
    "judge_names": "skfactors.evaluations.names",
    "loss_recovered": "skfactors.evaluations.loss",
    "make_superposition": "skfactors.evaluations.superposition",
    "name_factors": "skfactors.evaluations.names",
    "random_control": "skfactors.evaluations.controls",
    "sparse_probing": "skfactors.evaluations.probing",
    "stability": "skfactors.evaluations.again",
    "targeted_perturbation": "skfactors.evaluations.perturbation",
}
__all__ = list(_HOMES)
__getattr__, __dir__ = attach(__name__, _HOMES)
