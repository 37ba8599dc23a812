"""The chains we know.

Until validators' keys are kept encrypted, only development chains are open.
"""

# The CONFIG_NAME of each network's specification; a development chain has any.
NETWORKS = {"dev": ""}
