"""Every objective of the library beside its dense formula, in one table: `OBJECTIVES[name]`."""

from objectives import anchors, geometry, negatives, packed, pairs, soft_targets, supervised, views

OBJECTIVES = {
    f"{family.__name__.partition('.')[2]}-{name}": objective
    for family in (anchors, geometry, negatives, packed, pairs, soft_targets, supervised, views)
    for name, objective in family.OBJECTIVES.items()
}
