"""Names: what a user or a file calls a network, as C, Arduino and file systems can say it."""

import re
import unicodedata

from tinykit.engine.generate import c_identifier
from tinykit.export.identifiers import KEYWORDS

LONGEST = 31
"""Characters of a network's C name: linkers of C99 need not tell more apart."""

# Headers of cores and systems, without .h: a network's own header must not stand before them on an include path, and some file systems
# do not tell upper from lower case.
_TAKEN = frozenset("arduino device gpio kernel main mbed platform serial setup spi version wire zephyr".split())


def network_name(text: str) -> str:
    """A C identifier for a network that is called `text`, by which all its symbols begin: lower case, letters without accents.

    Anything becomes a name: 'Größe 2.1' is 'grosse_2_1', '3d-net' 'net_3d_net', 'int' 'net_int', '模型' 'net'.
    """
    plain = unicodedata.normalize("NFKD", text.replace("ß", "ss")).encode("ascii", "ignore").decode()
    name = c_identifier(plain)[:LONGEST].rstrip("_")
    return f"net_{name}"[:LONGEST].rstrip("_") if name in KEYWORDS or name in _TAKEN else name


def library_name(name: str) -> str:
    """The library that holds the network `name`: 'kws_ref_model' is 'KwsRefModelNet'. Folder, header and library share it.

    It differs from the network's name also where upper and lower case are one, so that both headers can lie in one folder.
    """
    return "".join(part.capitalize() for part in re.split("_+", name)) + "Net"
