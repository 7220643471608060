#pragma once
// What a request looks like on the wire. Pure.

#include <string>

#include <infrastructure_sdk/http/http.hpp>
#include <infrastructure_sdk/http/url.hpp>

namespace infrastructure_sdk {

/// @throws Error(validation) when the method or a header is not one, or a header is the transport's own; a value that
/// may be secret is not quoted.
std::string request_text(const HttpRequest& request, const HttpUrl& url);

/// Whether it may be sent again when it is not known if the server saw it.
bool is_repeatable(const HttpRequest& request);

}  // namespace infrastructure_sdk
