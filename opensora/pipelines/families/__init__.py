"""The generations of networks that the pipeline runs, by the name that a bundle's card gives."""

from collections.abc import Mapping
from types import MappingProxyType

from opensora.pipelines.bundle import Bundle
from opensora.pipelines.families.base import Family
from opensora.pipelines.families.flux import Flux
from opensora.pipelines.families.v1 import V12, V13
from opensora.pipelines.families.v2 import V2

FAMILIES: Mapping[str, Family] = MappingProxyType({"1.2": V12(), "1.3": V13(), "2.0": V2(), "flux": Flux()})


def family_of(bundle: Bundle) -> Family:
    """The generation of a bundle's networks."""
    return FAMILIES[bundle.card.family]
