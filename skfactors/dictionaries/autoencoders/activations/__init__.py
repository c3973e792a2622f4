"""What turns pre-activations into codes: one file an activation, all in one registry."""

from skfactors.dictionaries.autoencoders.activations.abs_topk import AbsTopK
from skfactors.dictionaries.autoencoders.activations.batch_topk import BatchTopK
from skfactors.dictionaries.autoencoders.activations.gated import Gated
from skfactors.dictionaries.autoencoders.activations.jump_relu import JumpReLU
from skfactors.dictionaries.autoencoders.activations.relu import ReLU
from skfactors.dictionaries.autoencoders.activations.topk import TopK

ACTIVATIONS = {
    "relu": ReLU,
    "topk": TopK,
    "batch_topk": BatchTopK,
    "jump_relu": JumpReLU,
    "gated": Gated,
    "abs_topk": AbsTopK,
}
