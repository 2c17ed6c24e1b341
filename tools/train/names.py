"""What the encoder is asked to name: the characters of each patch and of each cell."""
import torch
import torch.nn as nn
import torch.nn.functional as F

from blocks import SLOTS
from pages import IGNORE

EMPTY_SHARE = 0.06  # of the empty slots are trained on


class Naming(nn.Module):
    """Scores of classes for each patch, out of its features or of those of its cell."""

    def __init__(self, inputs, patches, width, classes):
        super().__init__()
        self.width = width
        self.first = nn.Linear(inputs, patches * width)
        self.second = nn.Linear(width, classes)

    def forward(self, features, chosen):
        return self.second(F.gelu(self.first(features).reshape(-1, self.width)[chosen])).float()


def choose_slots(labels):
    """
    Indices of all slots with a character and of a few without, and their
    labels; filled up to a multiple of SLOTS with what is not counted.
    """
    labels = labels.reshape(-1)
    take = (labels > 0) | (torch.rand(labels.shape[0], device=labels.device) < EMPTY_SHARE)
    i = take.nonzero()[:, 0]
    more = -i.shape[0] % SLOTS
    return F.pad(i, (0, more)), F.pad(labels[i].long(), (0, more), value=IGNORE)


def naming(first, second, features, labels, width):
    i, want = choose_slots(labels)
    z = second(F.gelu(first(features).reshape(-1, width)[i]))
    with torch.no_grad():
        seen = want > 0
        right = (z[seen].argmax(-1) == want[seen]).float().mean()
    return F.cross_entropy(z.float(), want, ignore_index=IGNORE), right
