"""MALICE's pre-training objective: four views of each place are encoded, decoded crosswise, and compared.

Each half of the dates of a sensor has to tell what the other half of its sensor, and the same half of the other
sensor, look like (reconstruction), and all four should say the same (invariance). Source: MALICE (Kalinicheva,
Dumeur, Inglada et al.), ALISE (arXiv 2407.08448).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from malice_core.cards import Modality
from malice_core.store.statistics import AUX, AUX_TERRAIN, AUX_WEATHER, MALICE, Statistics
from malice_core.training import losses
from malice_core.training.auxiliary import DAYS, Surroundings
from malice_core.training.batch import VIEWS, Batch, View
from malice_core.training.malice import WHOLE, Malice, Part
from malice_core.training.normalise import Normalise, Scale

OTHER = {"s2": "s1", "s1": "s2"}
#: What the encoders can be told about: padding only, or also pixels without data, or also clouds.
MASKS = ("padded", "observed", "clear")


@dataclass
class Losses:
    """Losses of one batch; scalars.

    Attributes:
        total: what is minimised.
        inv: invariance.
        rec: weighted reconstruction, sum of four views over 8.
        same, cross: mean square error of each view (keys ``batch.VIEWS``) reconstructed from the other half of its
            own sensor, and from the same half of the other sensor; ``cross`` is empty where it was not asked for.
        median: the same when every pixel of a view is predicted as its channel's median.
        cosine: mean cosine of a pixel's Sentinel-1 and Sentinel-2 embeddings.
    """

    total: Tensor
    inv: Tensor
    rec: Tensor
    same: dict[str, Tensor]
    cross: dict[str, Tensor]
    median: dict[str, Tensor]
    cosine: Tensor


@dataclass
class Reconstruction:
    """What was to be reconstructed of one view and what was, for pictures; normalised channels.

    Attributes:
        true, same, cross: (B, T, C, H', W'): the target, and the predictions from the own and from the other
            sensor. Sentinel-1 is despeckled and cropped by half the filter's window.
        mask: (B, T, H', W') bool, where the loss looks.
    """

    true: Tensor
    same: Tensor
    cross: Tensor
    mask: Tensor


@dataclass
class Series:
    """Both halves of one sensor's dates, a then b, as the networks get them. N = 2·B, padded to the longest.

    Attributes:
        images: (N, T, C, H, W) normalised, the bands' channels: what is reconstructed. Angles are not among them.
        days, padded: (N, T).
        observed, clear: (N, T, H, W) bool, False where padded.
        part: the pixels of ``latents`` and ``seen``.
        seen: (N, H', W') bool, whether the encoder gets any date.
        latents: (N, H', W', 10, 64).
    """

    images: Tensor
    days: Tensor
    padded: Tensor
    observed: Tensor
    clear: Tensor
    part: Part
    seen: Tensor
    latents: Tensor


class Objective(nn.Module):
    """Losses of a batch. The defaults are those of the published runs.

    Args:
        statistics: of normalisation, by sensor; ``None``: those of the published encoders.
        w_inv, w_rec: weights of invariance and reconstruction.
        w_cross: share of the reconstructions from the other sensor, 0 to 1. At 0 they are not computed in training.
        same_mod_loss: whether the invariance loss also compares the two halves of one sensor.
        frame: pixels that the invariance loss leaves out on all sides.
        lee_window: side of the Lee filter in pixels, odd; Sentinel-1's loss leaves out half of it on all sides.
        block_gradient: keeps the invariance loss from the encoders. The published runs did so, by accident.
        encoder_mask: what the encoders leave out of their attentions at each pixel. ``padded``: padded dates only,
            the published way; missing pixels then are dates with the median's values, and clouds are data.
            ``observed``: also dates without data at the pixel, as the engine does when it embeds. ``clear``: also
            clouds and shadows.
        stride: in training, only every so many-th pixel across and down, inside the frames of both losses and from a
            random first one, goes from the U-Net into transformer and losses. Neighbours tell much the same: more
            places a batch teach more than all of their pixels do. 1, as published: every pixel.
        auxiliary: whether the network is MALICE Aux; batches then have weather, terrain and angles.
    """

    def __init__(
        self,
        statistics: Mapping[str, Statistics | Modality] | None = None,
        w_inv: float = 1.0,
        w_rec: float = 1.0,
        w_cross: float = 0.0,
        same_mod_loss: bool = True,
        frame: int = losses.FRAME,
        lee_window: int = losses.LEE_WINDOW,
        block_gradient: bool = False,
        encoder_mask: str = "padded",
        stride: int = 1,
        auxiliary: bool = False,
    ) -> None:
        super().__init__()
        if stride < 1:
            raise ValueError(f"stride {stride} is not at least 1")
        if not 0 <= w_cross <= 1:
            raise ValueError(f"w_cross {w_cross} is not between 0 and 1")
        if lee_window < 3 or lee_window % 2 == 0:
            raise ValueError(f"lee_window {lee_window} is not odd and at least 3")
        if encoder_mask not in MASKS:
            raise ValueError(f"encoder_mask '{encoder_mask}' is none of {', '.join(MASKS)}")
        known: Mapping[str, Statistics | Modality] = (
            (AUX if auxiliary else MALICE) if statistics is None else statistics
        )
        self.normalise = nn.ModuleDict({sensor: Normalise(sensor, known[sensor]) for sensor in OTHER})
        self.w_inv, self.w_rec, self.w_cross = w_inv, w_rec, w_cross
        self.same_mod_loss, self.frame, self.lee_window = same_mod_loss, frame, lee_window
        self.block_gradient, self.encoder_mask, self.stride = block_gradient, encoder_mask, stride
        self.auxiliary = auxiliary
        if auxiliary:
            self.weather, self.terrain = Scale(AUX_WEATHER, (-1,), DAYS), Scale(AUX_TERRAIN, (-1, 1, 1))

    def forward(
        self, model: Malice, batch: Batch, images: bool = False
    ) -> tuple[Losses, dict[str, Reconstruction] | None]:
        """Losses of a batch, and the reconstructed views.

        Args:
            model: in training or evaluation mode; on the batch's device.
            batch: four views of each place.
            images: whether reconstructions are returned, by view.
        """
        part = self._part(model, batch)
        frame = self.frame if part == WHOLE else 0
        ground = self.ground(model, batch)
        series = {sensor: self.encode(model, sensor, batch, part, ground) for sensor in OTHER}
        latents = {sensor: _halves(one.latents) for sensor, one in series.items()}
        seen = {sensor: _halves(one.seen) for sensor, one in series.items()}
        tokens = losses.project(model.projector, latents, seen, self.block_gradient)
        inv = losses.invariance(tokens, seen, self.same_mod_loss, frame)

        same: dict[str, Tensor] = {}
        cross: dict[str, Tensor] = {}
        median: dict[str, Tensor] = {}
        pictures: dict[str, Reconstruction] = {}
        for sensor, other in OTHER.items():
            errors, baseline, drawn = self.decode(model, sensor, series[sensor], series[other], images)
            for half, letter in enumerate("ab"):
                key = sensor + letter
                same[key], median[key] = errors[0, half], baseline[half]
                if len(errors) == 2:
                    cross[key] = errors[1, half]
                if drawn is not None:
                    pictures[key] = _half_of(drawn, half, batch.views[key].padded.shape[1])
        rec = losses.reconstruction(
            torch.stack([same[key] for key in VIEWS]),
            torch.stack([cross[key] for key in VIEWS]) if cross else None,
            self.w_cross,
        )
        total = losses.total(inv, rec, self.w_inv, self.w_rec)
        result = Losses(total, inv, rec, same, cross, median, losses.cosine(latents, seen, frame))
        return result, pictures if images else None

    @property
    def reconstructed(self) -> dict[str, int]:
        """How many channels of each sensor the decoder gives back: those of its bands."""
        return {sensor: part.bands for sensor, part in self.normalise.items() if isinstance(part, Normalise)}

    def _part(self, model: Malice, batch: Batch) -> Part:
        """The pixels whose dates are encoded beyond the U-Net: the same ones in all views."""
        if self.stride == 1 or not model.training:
            return WHOLE
        edge = max(self.frame, self.lee_window // 2)
        first = (edge + torch.randint(self.stride, (2,))).tolist()
        sides = batch.views[VIEWS[0]].clear.shape[-2:]
        rows, cols = (slice(start, side - edge, self.stride) for start, side in zip(first, sides, strict=True))
        return rows, cols

    def ground(self, model: Malice, batch: Batch) -> Tensor | None:
        """Features of the terrain, (B, 64, H, W), once for the four views, which share them; None for MALICE."""
        if not self.auxiliary:
            return None
        if batch.terrain is None:
            raise ValueError("MALICE Aux takes terrain, and the batch has none")
        return model.encoder.ground(self.terrain(batch.terrain))

    def encode(
        self, model: Malice, sensor: str, batch: Batch, part: Part = WHOLE, ground: Tensor | None = None
    ) -> Series:
        """Both halves of one sensor, in one call of its encoder; latents of the pixels in ``part`` only.

        Args:
            ground: what :meth:`ground` returned.
        """
        view = _joined(batch.views[f"{sensor}a"], batch.views[f"{sensor}b"])
        normalise = self.normalise[sensor]
        assert isinstance(normalise, Normalise)
        images: Tensor = normalise(view)
        given = ~view.padded[:, :, None, None].expand_as(view.observed)
        if self.encoder_mask != "padded":
            given = given & getattr(view, self.encoder_mask)
        around = None
        if ground is not None:
            if view.weather is None:
                raise ValueError("MALICE Aux takes weather, and the batch has none")
            around = Surroundings(self.weather(view.weather), ground.repeat(2, 1, 1, 1))
        latents = model.encoder.latents(sensor, images, view.days, view.padded, given, part, around)
        unpadded = ~view.padded[:, :, None, None]
        return Series(
            images[:, :, : normalise.bands],
            view.days,
            view.padded,
            view.observed & unpadded,
            view.clear & unpadded,
            part,
            given.any(1)[:, part[0], part[1]],
            latents,
        )

    def decode(
        self, model: Malice, sensor: str, own: Series, other: Series, images: bool
    ) -> tuple[Tensor, Tensor, Reconstruction | None]:
        """Reconstructs both halves of one sensor, in one call of the decoder.

        Half b's latent gives half a's images and the other way round; the other sensor's half a gives half a.

        Args:
            own, other: the sensor to reconstruct, and the other one.
            images: whether the reconstructions are wanted, both halves after each other.

        Returns:
            Errors (V, 2): from the own and, if computed, from the other sensor, of halves a and b; the median's
            errors (2,); the reconstructions.
        """
        # At weight 0 the reconstructions from the other sensor are only for people to look at.
        sources = [own.latents.roll(len(own.latents) // 2, 0)]
        seen = [own.seen.roll(len(own.seen) // 2, 0)]
        if self.w_cross > 0 or not model.training or images:
            sources.append(other.latents if self.w_cross > 0 else other.latents.detach())
            seen.append(other.seen)
        predicted = model.decoder(sensor, torch.stack(sources), own.days)  # (V, N, H, W, C, T)
        edge = self.lee_window // 2 if sensor == "s1" else 0
        # The filter is on exp(normalised logarithm) in MALICE Aux too: (log x - median) / range is the same number in
        # whatever base the logarithm was taken, so this is the published filter. On 10**(normalised log10) powers would
        # be raised to 2.3 times the exponent and speckle be larger than what the filter takes for uniform.
        true = losses.despeckled(own.images, own.observed, self.lee_window) if edge else own.images
        clear = losses.crop(own.clear, edge, rows=2)
        if own.part != WHOLE:
            # The part lies inside the filter's frame.
            rows, cols = (slice(one.start - edge, one.stop - edge, one.step) for one in own.part)
            true, clear, edge = true[..., rows, cols], clear[..., rows, cols], 0
        mask = clear.permute(0, 2, 3, 1) & losses.crop(torch.stack(seen), edge, rows=2).unsqueeze(-1)
        predicted = losses.crop(predicted, edge, rows=2)
        target = true.permute(0, 3, 4, 2, 1)
        errors = losses.masked_mse(_halves(predicted, 1), _halves(target), _halves(mask, 1).unsqueeze(-2), keep=2)
        baseline = losses.masked_mse(torch.zeros_like(true[:1, :1]), _halves(true), _halves(clear).unsqueeze(3), keep=1)
        drawn = None
        if images:
            pictures = predicted.detach().permute(0, 1, 5, 4, 2, 3)
            drawn = Reconstruction(true, pictures[0], pictures[1], clear)
        return errors, baseline, drawn


def _joined(a: View, b: View) -> View:
    """Two views after each other, padded to the longer one and to one date at least."""
    dates = max(a.padded.shape[1], b.padded.shape[1], 1)
    joined: dict[str, Any] = {}
    for field in fields(View):
        pair = getattr(a, field.name), getattr(b, field.name)
        if pair[0] is None:
            # This network does not take it.
            continue
        parts = []
        for part in pair:
            missing = dates - part.shape[1]
            filling = (0, 0) * (part.ndim - 2) + (0, missing)
            parts.append(F.pad(part, filling, value=field.name == "padded") if missing else part)
        joined[field.name] = torch.cat(parts)
    return View(**joined)


def _halves(joined: Tensor, dim: int = 0) -> Tensor:
    """(2·B, …) -> (2, B, …), without a copy."""
    return joined.view(*joined.shape[:dim], 2, joined.shape[dim] // 2, *joined.shape[dim + 1 :])


def _half_of(both: Reconstruction, half: int, dates: int) -> Reconstruction:
    """One half's first ``dates`` dates: the others are padding."""
    return Reconstruction(*(_halves(getattr(both, field.name))[half, :, :dates] for field in fields(both)))
