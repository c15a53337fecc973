"""How fast tierserve is: each figure stands beside the raw limit of the same run. ``make bench`` runs ``__main__``."""
