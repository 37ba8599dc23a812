"""The chains we know.

Until validators' keys are kept encrypted, only the development network is open.
"""

DEVELOPMENT = "dev"

NETWORKS = (DEVELOPMENT,)
