"""What tierserve reaches, each figure beside the raw limit of the same run. ``make bench`` runs all of it."""
