"""What other people's packages need to live on Puff's loop; each applies itself when its package is
imported.
"""

from __future__ import annotations

__all__: list[str] = []
