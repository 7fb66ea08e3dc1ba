"""Every objective of the library beside its dense formula, in one table: `OBJECTIVES["family-name"]`.

A family is a module beside this one that has a dictionary `OBJECTIVES`; a new module is found by itself.
"""

import importlib
import pkgutil

FAMILIES = [importlib.import_module(f"objectives.{found.name}") for found in pkgutil.iter_modules(__path__)]
OBJECTIVES = {
    f"{family.__name__.removeprefix('objectives.')}-{name}": objective
    for family in FAMILIES
    for name, objective in getattr(family, "OBJECTIVES", {}).items()
}
