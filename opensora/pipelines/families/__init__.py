"""The generations of networks that the pipeline runs, by the name that a bundle's card gives."""

from collections.abc import Mapping
from types import MappingProxyType

from opensora.pipelines.bundle import Bundle
from opensora.pipelines.families.base import Family
from opensora.pipelines.families.flux import Flux
from opensora.pipelines.families.high_compression import HighCompression
from opensora.pipelines.families.v1 import V12, V13
from opensora.pipelines.families.v2 import V2

FAMILIES: Mapping[str, Family] = MappingProxyType({"1.2": V12(), "1.3": V13(), "2.0": V2(), "flux": Flux()})
HIGH_COMPRESSION: Family = HighCompression()


def family_of(bundle: Bundle) -> Family:
    """The generation of a bundle's networks."""
    return HIGH_COMPRESSION if bundle.card.high_compression else FAMILIES[bundle.card.family]
