"""Small networks of common kinds. Copied beside their weights as the code of a PyTorch source, `networks:NAME`."""

import torch
from torch import nn
from torch.nn import functional

VOCABULARY, WIDTH, LENGTH, PAD = 300, 32, 12, 0


class Images(nn.Module):
    """Convolutions with batch normalisation, overlapping pools and a resize, over images of 3 × 8 × 8."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.pool = nn.MaxPool2d(3, 2)
        self.second = nn.Conv2d(16, 32, 3, padding=1)
        self.average = nn.AvgPool2d(3, 2, padding=1)
        self.square = nn.Linear(32, 32)
        self.head = nn.Linear(32, 10)

    def forward(self, image):
        found = self.pool(functional.gelu(self.norm(self.first(image))))
        found = functional.interpolate(found, scale_factor=2, mode="bilinear", align_corners=True)
        found = self.average(functional.gelu(self.second(found))).mean((2, 3))
        return self.head(functional.gelu(self.square(found)))


class Layer(nn.Module):
    """One layer of an encoder, normalised first."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.before = nn.LayerNorm(width)
        self.mixed = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.between = nn.LayerNorm(width)
        self.wide = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)

    def forward(self, states, kept):
        batch, length, width = states.shape
        parts = self.mixed(self.before(states)).reshape(batch, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(2, 3) / (width // self.heads) ** 0.5
        scores = scores.masked_fill(~kept[:, None, None, :], -1e9).softmax(-1)
        found = (scores @ value).transpose(1, 2).reshape(batch, length, width)
        states = states + self.out(found)
        return states + self.narrow(functional.gelu(self.wide(self.between(states))))


class Sentences(nn.Module):
    """A transformer encoder over tokens, padded with zeros."""

    def __init__(self, depth=2, width=WIDTH, heads=4):
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, width)
        self.places = nn.Embedding(LENGTH, width)
        self.entry = nn.LayerNorm(width)
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(depth))
        self.last = nn.LayerNorm(width)
        self.head = nn.Linear(width, 4)
        # As large encoders are initialised: normalisation then has little variance to divide by.
        nn.init.normal_(self.tokens.weight, std=0.02)
        nn.init.normal_(self.places.weight, std=0.02)

    def forward(self, ids):
        kept = ids != PAD
        states = self.entry(self.tokens(ids) + self.places(torch.arange(ids.shape[1])))
        for layer in self.layers:
            states = layer(states, kept)
        states = self.last(states) * kept[:, :, None]
        return self.head(states.sum(1) / kept.sum(1, keepdim=True))


class Series(nn.Module):
    """A bidirectional LSTM over four channels."""

    def __init__(self):
        super().__init__()
        self.cell = nn.LSTM(4, 16, batch_first=True, bidirectional=True)
        self.head = nn.Linear(32, 3)

    def forward(self, series):
        states, _ = self.cell(series)
        return self.head(states[:, -1])


def images():
    return Images()


def sentences():
    return Sentences()


def deep():
    return Sentences(depth=10, width=64)


class Scales(Sentences):
    """An encoder with one answer of ones and one of thousandths, as detectors and multi-task heads have."""

    def __init__(self):
        super().__init__(depth=10, width=64)
        self.head = nn.Linear(64, 1)
        self.fine = nn.Linear(64, 1)

    def forward(self, ids):
        kept = ids != PAD
        states = self.entry(self.tokens(ids) + self.places(torch.arange(ids.shape[1])))
        for layer in self.layers:
            states = layer(states, kept)
        states = (self.last(states) * kept[:, :, None]).sum(1) / kept.sum(1, keepdim=True)
        return torch.cat([self.head(states), self.fine(states) / 1000], 1)


def series():
    return Series()


def scales():
    return Scales()
