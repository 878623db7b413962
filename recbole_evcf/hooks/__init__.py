"""All changes to RecBole, one file per part; only ``recbole_evcf`` imports this package."""
