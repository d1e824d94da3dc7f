"""Published protocols as one suite: what they need is loaded and checked before anything is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from sidlsg.evaluate.compare import References, compare, load_references, require_count, require_reference
from sidlsg.evaluate.feature_files import FeatureSet, Source
from sidlsg.evaluate.hpsv2 import PROMPTS_A_STYLE, STYLES, preference_table
from sidlsg.evaluate.networks import NetworkMeasure, load_network
from sidlsg.evaluate.published import Protocol, get_protocol
from sidlsg.evaluate.suite import DrawnSet, Measure, TextFit, Values, prompts_digest
from sidlsg.evaluate.weights import WeightFile, weight_path
from sidlsg.prompts.held_out import read_held_out
from sidlsg.runtime.distributed import own_device
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.parsing import read_json
from sidlsg.storage.records import Score, StyleMean

CAPTION_SET = "captions"
CAPTION_FILE = "list of captions"
STYLE_SETS = {style: f"hpsv2-{style}" for style in STYLES}


class PublishedSuite:
    """The published protocols that an evaluation asks for."""

    def __init__(self, names: Sequence[str], weights: Mapping[str, WeightFile], device: torch.device) -> None:
        """Args:
        names: of the protocols.
        weights: the files that they need.
        device: where the networks run.

        Raises:
            InputError: a protocol is unknown, or a file is missing, damaged, or does not fit its protocol.
        """
        self.protocols = tuple(get_protocol(name) for name in dict.fromkeys(names))
        paths = {name: weight_path(weights, name) for each in self.protocols for name in each.files}
        # What is quickly seen to be wrong comes first, the networks last.
        self._references: dict[str, References] = {}
        self._sets: dict[str, tuple[DrawnSet, ...]] = {}
        for protocol in self.protocols:
            if protocol.prompts not in self._sets:
                self._sets[protocol.prompts] = _drawn_sets(protocol, paths[protocol.prompts])
            count = sum(len(drawn.prompts) for drawn in self._sets[protocol.prompts])
            if protocol.images not in (None, count):
                raise InputError(
                    f"{paths[protocol.prompts]} holds {count:,} prompts, and {protocol.name} takes "
                    f"{protocol.images:,}; give the protocol's list"
                )
            require_count(count, "generated", protocol.images, protocol)
            if protocol.reference:
                name = protocol.reference
                if name not in self._references:
                    self._references[name] = load_references(paths[name])
                require_reference(self._references[name], protocol, weights[protocol.network].sha256)
        self._networks: dict[str, NetworkMeasure] = {}
        for protocol in self.protocols:
            if protocol.space not in self._networks:
                self._networks[protocol.space] = load_network(
                    protocol, weights[protocol.network].sha256, paths[protocol.network], device
                )

    @property
    def sets(self) -> tuple[DrawnSet, ...]:
        """See `Suite`."""
        return tuple(drawn for sets in self._sets.values() for drawn in sets)

    def measures(self, drawn: DrawnSet) -> tuple[Measure, ...]:
        """See `Suite`."""
        asking = (each for each in self.protocols if drawn in self._sets[each.prompts])
        return tuple(self._networks[space] for space in dict.fromkeys(each.space for each in asking))

    def scores(self, values: Values) -> tuple[Score, ...]:
        """See `Suite`."""
        return tuple(
            score
            for protocol in self.protocols
            for score in compare(self._read(protocol, values), self._references.get(protocol.reference), protocol)
        )

    def styles(self, values: Values) -> tuple[StyleMean, ...]:
        """See `Suite`."""
        rows = []
        for protocol in self.protocols:
            if protocol.formula == "preference":
                name = self._networks[protocol.space].name
                by_style = {style: values[set_][name][:, 0].tolist() for style, set_ in STYLE_SETS.items()}
                table = preference_table(by_style)
                rows += [
                    StyleMean(protocol=protocol.name, style=style, mean=row.mean, deviation=row.deviation)
                    for style, row in table.styles.items()
                ]
        return tuple(rows)

    def text_fit(self, values: Values) -> TextFit | None:
        """See `Suite`: by CLIP where it is measured, else by HPSv2 on photographs' prompts."""
        for formula, name in (("cosine", CAPTION_SET), ("preference", STYLE_SETS["photo"])):
            for protocol in self.protocols:
                if protocol.formula == formula:
                    (drawn,) = (each for each in self._sets[protocol.prompts] if each.name == name)
                    found = values[name][self._networks[protocol.space].name][:, 0]
                    return TextFit(drawn=drawn, values=found, measure=f"{protocol.scores[0]} of the picture")
        return None

    def _read(self, protocol: Protocol, values: Values) -> FeatureSet:
        """What was read off a protocol's pictures, in its sets' order."""
        network, sets = self._networks[protocol.space], self._sets[protocol.prompts]
        source = Source(
            space=protocol.space,
            network_sha256=network.sha256,
            images_sha256="",
            prompts_sha256=prompts_digest([text for drawn in sets for text in drawn.prompts]),
        )
        return FeatureSet(features=torch.cat([values[drawn.name][network.name] for drawn in sets]), source=source)


def load_published(names: Sequence[str], weights: Mapping[str, WeightFile]) -> PublishedSuite | None:
    """The published protocols of these names on this process' device; None for none.

    Raises:
        InputError: see `PublishedSuite`.
    """
    return PublishedSuite(names, weights, own_device()) if names else None


def _drawn_sets(protocol: Protocol, path: Path) -> tuple[DrawnSet, ...]:
    if protocol.formula == "preference":
        # The published scores are of pictures in JPEG files.
        prompts = read_style_prompts(path)
        return tuple(DrawnSet(name=STYLE_SETS[style], prompts=prompts[style], format="jpeg") for style in STYLES)
    return (DrawnSet(name=CAPTION_SET, prompts=tuple(read_held_out(path, CAPTION_FILE))),)


def read_style_prompts(path: Path) -> dict[str, tuple[str, ...]]:
    """Read HPSv2's prompts.

    Raises:
        InputError: the file is no JSON object of four lists of 800 texts.
    """
    table = read_json(path, "give HPSv2's prompts by style")
    if not isinstance(table, dict) or set(table) != set(STYLES):
        held = ", ".join(table) if isinstance(table, dict) else type(table).__name__
        raise InputError(f"{path} holds {held}; give a JSON object with a list for each of {', '.join(STYLES)}")
    for style, prompts in table.items():
        is_texts = isinstance(prompts, list) and all(isinstance(text, str) for text in prompts)
        if not is_texts or len(prompts) != PROMPTS_A_STYLE:
            held = f"{len(prompts):,} entries" if isinstance(prompts, list) else type(prompts).__name__
            raise InputError(f"{style} in {path} has {held}; give a list of {PROMPTS_A_STYLE} texts")
    return {style: tuple(table[style]) for style in STYLES}
