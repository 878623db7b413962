"""All that changes RecBole, a file for each of its parts; ``recbole_evcf`` alone imports it."""
