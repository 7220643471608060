#pragma once
// Asio's TCP, for the sources of this folder.

#include "core/asio.hpp"

#include <boost/asio/ip/address.hpp>
#include <boost/asio/ip/tcp.hpp>
