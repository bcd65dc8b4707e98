import pytest
from packaging.requirements import Requirement

from rechain import recipes
from rechain.exceptions import UserErrorException

pytestmark = pytest.mark.fast


def test_names_are_in_the_order_of_versions():
    versions = ["4.5.0", "5.1.0", "5.4.0", "6.7.0", "7.0.0", "7.7.0", "7.8.1"]
    assert recipes.names() == [f"chainer-{version}" for version in versions]


def test_an_unknown_version_names_the_known_ones():
    with pytest.raises(UserErrorException, match=r"chainer 6\.0\.0 .*4\.5\.0, 5\.1\.0, .*7\.8\.1"):
        recipes.load("chainer-6.0.0")


@pytest.mark.parametrize("name", recipes.names())
def test_every_cell_pins_exactly_and_within_its_own_constraints(name):
    recipe = recipes.load(name)
    assert recipe.cells[0].python == "3.6"
    for cell in recipe.cells:
        pins = {one.name: one for one in map(Requirement, cell.pins)}
        assert str(pins[recipe.framework].specifier) == f"=={recipe.version}"
        versions = {n: str(one.specifier).removeprefix("==") for n, one in pins.items()}
        for limit in [*map(Requirement, cell.constraints), *map(Requirement, recipe.requires)]:
            if limit.name in versions:
                assert limit.specifier.contains(versions[limit.name]), (cell.python, str(limit))
        assert {Requirement(need).name for need in recipe.requires} <= pins.keys()
        assert "numpy" in {Requirement(limit).name for limit in cell.constraints}


def test_a_cell_is_found_by_minor_version():
    recipe = recipes.load("chainer-7.0.0")
    assert recipe.cell("3.10.13") is recipe.cell("3.10")
    assert recipe.cell("3.1") is None
    assert recipe.pythons == "3.6, 3.7, 3.8, 3.9, 3.10, 3.11, 3.12 or 3.13"
