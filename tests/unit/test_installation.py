"""What counts as the environment of a stage: what its extras need, and no more."""

from importlib import metadata
from pathlib import Path

import pytest

from paritygate import installation
from paritygate.api.spec import SourceFormat


class Package:
    def __init__(self, name, version="1", requires=()):
        self.name, self.requires = name, list(requires)
        self._fields = [("Name", name), ("Version", version), *(("Requires-Dist", one) for one in requires)]

    def read_text(self, file):
        """Metadata as packages carry it, with a description that is not to be read as a field."""
        fields = "".join(f"{name}: {value}\n" for name, value in self._fields)
        return f"{fields}\nVersion: of the description" if file == "METADATA" else None


@pytest.fixture
def install(monkeypatch):
    """Pretends that packages are installed, and forgets what was read before."""

    def pretend(*packages):
        by_name = {package.name: package for package in packages}

        def distribution(name):
            if name not in by_name:
                raise metadata.PackageNotFoundError(name)
            return by_name[name]

        monkeypatch.setattr(installation, "distribution", distribution)
        monkeypatch.setattr(installation, "distributions", lambda: packages)
        forget()

    def forget():
        installation._reachable.cache_clear()
        installation._installed.cache_clear()

    yield pretend
    forget()


US = Package(
    "paritygate",
    requires=[
        "pydantic>=2",
        'scikit-learn<2,>=1; extra == "sklearn"',
        "torch>=2; extra == 'torch'",
        "paritygate[sklearn,torch]; extra == 'all'",
        "gone; sys_platform == 'win32'",
    ],
)
BASE = (US, Package("pydantic"), Package("scikit-learn", requires=["Num.Py[fast]>=1 ; python_version>'3'"]))
NUMPY = Package("num-py", requires=["mkl; extra == 'fast'", "docs; extra == 'docs'"])
SKLEARN = SourceFormat.SKLEARN


def digests():
    return installation.converter_digest(SKLEARN), installation.source_digest(SKLEARN)


@pytest.mark.parametrize(
    ("packages", "converter_changes", "source_changes"),
    [
        pytest.param([Package("mkl", "2")], True, True, id="what an extra needs by way of another package"),
        pytest.param([Package("mkl"), Package("torch")], False, False, id="what only another format needs"),
        pytest.param([Package("mkl"), Package("category-encoders")], False, True, id="what the source may import"),
        pytest.param([Package("mkl"), Package("pip", "99")], False, False, id="what installs packages"),
    ],
)
def test_digests_follow_from_what_stages_can_import(install, packages, converter_changes, source_changes):
    install(*BASE, NUMPY, Package("mkl"))
    converter, source = digests()
    install(*BASE, NUMPY, *packages)
    assert (digests()[0] != converter, digests()[1] != source) == (converter_changes, source_changes)


def test_without_foreign_packages_the_source_may_answer_where_it_is_converted(install):
    install(*BASE, NUMPY, Package("mkl"))
    assert len(set(digests())) == 1


def test_every_format_names_extras_that_exist():
    declared = set(metadata.metadata("paritygate").get_all("Provides-Extra"))
    assert {extra for extras in installation.EXTRAS.values() for extra in extras} <= declared
    assert set(installation.EXTRAS) == set(SourceFormat)


def test_no_digest_holds_a_place(monkeypatch):
    seen = []
    monkeypatch.setattr(installation, "digest_of", lambda content: seen.append(str(content)) or "")
    for source_format in SourceFormat:
        installation.source_digest(source_format)
    root = Path(installation.__file__).parents[2]
    assert seen
    assert not any(str(root) in content or "/" in content for content in seen)
