"""
OpenID Connect, spoken by a relying party. Nothing here imports Django.

Start at :mod:`spatio_django.oidc.client`: one method per step of the protocol, composed of the modules
beside it. Each of those separates asking (an HTTP call) from judging (a function of values).
"""
