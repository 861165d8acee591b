"""The provider's addresses: django-oauth-toolkit under ``o/``, so that the issuer has a path."""

import json
from typing import Any

from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import include, path, reverse
from oauth2_provider.views import ConnectDiscoveryInfoView


class Discovery(ConnectDiscoveryInfoView):  # type: ignore[misc]  # the parent has no types
    """
    The toolkit's document, with the one member that it leaves out.

    Version 3.4 has dynamic registration, but names its endpoint in the OAuth document (RFC 8414) only, which
    in turn has no userinfo endpoint. OpenID Connect Discovery §3 recommends it here.
    """

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Answer."""
        document = json.loads(super().get(request, *args, **kwargs).content)
        endpoint = request.build_absolute_uri(reverse("oauth2_provider:dcr-register"))
        return JsonResponse(document | {"registration_endpoint": endpoint})


urlpatterns = [
    path("o/.well-known/openid-configuration", Discovery.as_view()),
    path("o/", include("oauth2_provider.urls")),
    path("accounts/login/", LoginView.as_view()),
]
