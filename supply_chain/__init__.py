"""What we install from others: under which licences, as an SBOM, against known weaknesses.

``python -m supply_chain`` needs the environment that ``make setup`` makes, and nothing else; see
``make supply-chain``.
"""
