"""What reads rows of one place, and reconstructs them: crosscoders and transcoders are refused here, in words."""

from skfactors.dictionaries.adapters import PipelineModel, as_factor_model
from skfactors.dictionaries.crosscoder import Crosscoder
from skfactors.dictionaries.predicting import PredictorMixin


def model_of_one_place(dictionary, *, instead: str = "give a dictionary of one of them", reconstructs: bool = False):
    """
    Return a dictionary as :func:`~skfactors.dictionaries.adapters.as_factor_model` does, if it reads rows of one place.

    Parameters
    ----------
    dictionary : FactorModel, Pipeline or estimator
        Fitted.
    instead : str
        What to do with a crosscoder.
    reconstructs : bool, default=False
        Whether its factors must add up to the rows that it reads.

    Raises
    ------
    NotFittedError
        If it is not fitted.
    TypeError
        If it cannot be read as a dictionary, is a crosscoder, or a transcoder where rows are to be reconstructed.
    """
    model = as_factor_model(dictionary)
    if isinstance(_last_of(model), Crosscoder):
        raise TypeError(
            f"a crosscoder codes several places of a token at once, and here rows of one place are read: {instead}."
        )
    if reconstructs and predicts(model):
        raise TypeError(
            "factors of a transcoder add up to rows of another place than those that it reads: this is asked of "
            "dictionaries that reconstruct."
        )
    return model


def predicts(model) -> bool:
    """Return whether what :func:`model_of_one_place` returned predicts other rows than it reads."""
    return isinstance(_last_of(model), PredictorMixin)


def _last_of(model):
    """Return the dictionary at the end of a pipeline, or the one that is given."""
    return model.model if isinstance(model, PipelineModel) else model
