"""External bases as observable assets; the digest that the registry serves is the data version."""

import warnings
from collections.abc import Iterator

import dagster as dg

from aml_images_dagster.catalog.catalog import Catalog
from aml_images_dagster.defs.keys import REBUILT, UPSTREAM_GROUP, base_key, images_with_assets
from aml_images_dagster.defs.run import Factory, failure
from aml_images_dagster.errors import BadInput
from aml_images_dagster.upstream import external_bases

RESUME = "resume"
"""Metadata of an observation that a person asked for: a paused base is tried again."""


def base_assets(catalog: Catalog) -> list[dg.AssetsDefinition]:
    """One observable asset for each external base. Observing one in the UI also resumes it."""
    found = external_bases(images_with_assets(catalog))
    # Two that Dagster could not distinguish, such as x:1.0 and x:1-0, would keep everything from loading.
    plain_names = {base_key(base).to_python_identifier(): base for base in sorted(found, reverse=True)}
    bases = {base: found[base] for base in sorted(plain_names.values())}
    if not bases:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        return [_observable(bases)]


def _observable(bases: dict[str, tuple[str, ...]]) -> dg.AssetsDefinition:
    @dg.multi_observable_source_asset(
        name="observe_bases",
        specs=[
            dg.AssetSpec(
                base_key(base),
                description=f"{base} as its registry serves it. Observe it to resume builds of a paused base.",
                kinds={"docker"},
                metadata={"images": dg.MetadataValue.json(list(images))},
            )
            for base, images in bases.items()
        ],
        check_specs=[
            dg.AssetCheckSpec(
                REBUILT, asset=base_key(base), description="Every image FROM this base is built on its current digest."
            )
            for base in bases
        ],
        group_name=UPSTREAM_GROUP,
        can_subset=True,
    )  # type: ignore[untyped-decorator]
    def observe_bases(
        context: dg.AssetExecutionContext, factory: dg.ResourceParam[Factory]
    ) -> Iterator[dg.ObserveResult]:
        wanted = {base_key(base): base for base in bases if base_key(base) in context.selected_asset_keys}
        answers = factory.backends.resolver.observe(wanted.values())
        faults = []
        for key, base in wanted.items():
            answer = answers[base]
            if isinstance(answer, BadInput):
                faults.append(answer)
                continue
            yield dg.ObserveResult(
                asset_key=key,
                data_version=dg.DataVersion(answer.digest),
                metadata={"digest": answer.digest, "found_at": answer.pull, RESUME: True},
                check_results=[
                    dg.AssetCheckResult(
                        asset_key=key, check_name=REBUILT, passed=True, description="resumed by a person"
                    )
                ],
            )
        if faults:
            raise failure("\n".join(map(str, faults)))

    return observe_bases  # type: ignore[no-any-return]
