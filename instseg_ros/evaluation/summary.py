"""Records of many images → the scores, their intervals and what the report draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .coco import CocoEvaluation
from .protocol import OCCLUSION, RESAMPLES
from .record import Record

HISTOGRAM_MM = np.concatenate([np.arange(0, 20.5, 0.5), [np.inf]])


class Summary:
    """Scores of a set of images.

    Args:
        records: one an image.
        part: only this part counts (the others are ignored, images without it are left out); None = all.
    """

    def __init__(self, records: Sequence[Record], part: str | None = None) -> None:
        if part is not None:
            records = [_only(record, part) for record in records if (record.part == part).any()]
        self.records = list(records)
        self.by_size = CocoEvaluation([r.visible for r in self.records])
        self.by_occlusion = CocoEvaluation([r.visible for r in self.records], by="occlusion")
        self.amodal = self.amodal_occlusion = None
        whole = [r.amodal for r in self.records]
        if whole and all(masks is not None for masks in whole):
            self.amodal = CocoEvaluation(whole)
            self.amodal_occlusion = CocoEvaluation(whole, by="occlusion")
        # Everything an instance or an image contributes, flat, with the number of its image: a resample is a weighting.
        self.instance_image = _image_of([r.counted.sum() for r in self.records])
        self.iou = _flat([r.iou[r.counted] for r in self.records])
        self.best = _flat([r.best[r.counted] for r in self.records])
        self.matched_image = _image_of([len(r.matched.rows) for r in self.records])
        self.centroid_mm = 1e3 * _flat([r.matched.centroid for r in self.records])
        self.covariance = _flat([r.matched.covariance for r in self.records])
        self.sigma_mm = 1e3 * _flat([r.matched.sigma for r in self.records])
        self.visible = _flat([r.matched.visible for r in self.records])
        self.order = np.array([r.order for r in self.records]).reshape(-1, 2)
        self.count = np.array([(r.counted.sum(), r.found) for r in self.records]).reshape(-1, 2)
        self.one_part = np.array([len(set(r.part)) <= 1 for r in self.records], bool)
        self.part = part

    def scores(self, sample: np.ndarray | None = None) -> dict[str, float]:
        """The scalar scores, of all images or of a resample of them; NaN where there is nothing to score."""
        weight = np.bincount(sample, minlength=len(self.records)) if sample is not None else np.ones(len(self.records), int)
        everything = self.by_size.accumulate("all", sample)
        scores = {
            "AP": everything.ap(),
            "AP50": everything.ap(0.5),
            "AP75": everything.ap(0.75),
            "AR1": everything.ar(1),
            "AR10": everything.ar(10),
            "AR100": everything.ar(100),
        }
        for name in OCCLUSION:
            scores[f"AR_{name}"] = self.by_occlusion.accumulate(name, sample).ar()
        scores["mIoU"] = _mean(self.iou, weight[self.instance_image])
        scores["mIoU_best"] = _mean(self.best, weight[self.instance_image])
        if self.amodal is not None and self.amodal_occlusion is not None:
            whole = self.amodal.accumulate("all", sample)
            scores |= {"amodal_AP": whole.ap(), "amodal_AP50": whole.ap(0.5), "amodal_AR100": whole.ar()}
            for name in OCCLUSION:
                scores[f"amodal_AR_{name}"] = self.amodal_occlusion.accumulate(name, sample).ar()
        right, asked = weight @ self.order
        scores["order_accuracy"] = right / asked if asked else float("nan")
        # In a mixed bin nobody says which predictions are meant for this part.
        of_images = weight * self.one_part if self.part is not None else weight
        difference = self.count[:, 1] - self.count[:, 0]
        scores["count_accuracy"] = _mean(difference == 0, of_images)
        scores["count_error"] = _mean(np.abs(difference), of_images)
        scores["count_bias"] = _mean(difference, of_images)
        times = weight[self.matched_image]
        for name, values in (("centroid_mm", self.centroid_mm), ("covariance", self.covariance), ("sigma_mm", self.sigma_mm)):
            drawn = np.repeat(values, times)
            scores[f"{name}_median"] = float(np.median(drawn)) if drawn.size else float("nan")
            scores[f"{name}_mean"] = float(drawn.mean()) if drawn.size else float("nan")
            scores[f"{name}_p90"] = float(np.percentile(drawn, 90)) if drawn.size else float("nan")
        known = np.isfinite(self.visible)
        scores["visible_error_mean"] = _mean(self.visible[known], times[known])
        return scores

    def size_scores(self) -> dict[str, float]:
        """AP and AR of small, medium and large masks (COCO: under 32², under 96², the rest)."""
        ranges = {letter: self.by_size.accumulate(name) for letter, name in zip("sml", ("small", "medium", "large"))}
        return {f"AP{k}": s.ap() for k, s in ranges.items()} | {f"AR{k}": s.ar() for k, s in ranges.items()}

    def intervals(self, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, list[float]]:
        """95 % percentile bootstrap intervals [low, high] of the scores, over images."""
        rng = np.random.default_rng(seed)
        n = len(self.records)
        drawn = [self.scores(rng.integers(n, size=n)) for _ in range(resamples)]
        intervals = {}
        for name in drawn[0] if drawn else ():
            values = np.array([scores[name] for scores in drawn])
            values = values[np.isfinite(values)]
            intervals[name] = np.percentile(values, [2.5, 97.5]).tolist() if values.size else [float("nan")] * 2
        return intervals

    def seconds(self) -> dict[str, float]:
        """Seconds an image: median, mean, 99th percentile; the first image, which warms up, is left out of two or more."""
        values = np.array([r.seconds for r in self.records])[1 if len(self.records) > 1 else 0 :]
        values = values[np.isfinite(values)]
        if not values.size:
            return dict.fromkeys(("median", "mean", "p99"), float("nan"))
        return {"median": float(np.median(values)), "mean": float(values.mean()), "p99": float(np.percentile(values, 99))}

    def sizes(self) -> dict[str, int]:
        """How much evidence there is."""
        return {
            "images": len(self.records),
            "instances": int(sum(r.counted.sum() for r in self.records)),
            "instances_ignored": int(sum((~r.counted).sum() for r in self.records)),
            "predictions": int(sum(len(r.visible.score) for r in self.records)),
            "matched": int(len(self.matched_image)),
            "order_pairs": int(self.order[:, 1].sum()),
        }

    def plots(self) -> dict:
        """Precision at 101 recalls, the histogram of centroid errors, the confusion of counts."""
        precision = self.by_size.accumulate("all").precision[:, :, 2]
        pairs, times = np.unique(self.count, axis=0, return_counts=True)
        return {
            "precision": {
                "IoU 0.50": precision[0].tolist(),
                "IoU 0.75": precision[5].tolist(),
                "mean": precision.mean(0).tolist(),
            },
            "centroid_mm": {
                "edges": HISTOGRAM_MM[:-1].tolist(),  # the last bin is open
                "count": np.histogram(self.centroid_mm, HISTOGRAM_MM)[0].tolist(),
            },
            "count": [[*map(int, pair), int(t)] for pair, t in zip(pairs, times)],
        }


def _only(record: Record, part: str) -> Record:
    keep = record.counted & (record.part == part)
    matched = keep[record.matched.rows]
    amodal = record.amodal and replace(record.amodal, counted=record.amodal.counted & (record.part == part))
    return replace(
        record,
        counted=keep,
        visible=replace(record.visible, counted=keep),
        amodal=amodal,
        matched=type(record.matched)(*(values[matched] for values in vars(record.matched).values())),
    )


def _flat(values: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(values) if values else np.zeros(0)


def _image_of(counts: list[int]) -> np.ndarray:
    return np.repeat(np.arange(len(counts)), counts)


def _mean(values: np.ndarray, weight: np.ndarray) -> float:
    return float(values @ weight / weight.sum()) if weight.sum() else float("nan")
