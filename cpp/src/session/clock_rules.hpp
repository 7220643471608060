#pragma once
// What moves the four clocks, and what they say. Pure; times come in as arguments.
//
//              starts                     moved by                        stops
// ttl          creation                   extend                          -
// idle         active                     touch, activity                 suspended
// disconnect   the last client left       -                               a client comes, suspended
// retention    suspended                  -                               active
//
// Deadlines are absolute times of the wall clock: time that the host slept counts, and a clock that is stepped moves
// what is left of them. A ttl that suspends or disconnects waits until the session is active.
// A ping moves nothing. Work in the guest does not stop the disconnect clock: it asks who is there, not what is done.

#include <vector>

#include <infrastructure_sdk/session/session.hpp>

namespace infrastructure_sdk {

SessionClock& clock_of(SessionClocks& clocks, ClockKind clock);
const SessionClock& clock_of(const SessionClocks& clocks, ClockKind clock);

/// @throws Error(validation) on a limit that is not above zero, a ttl above its maximum, and an action that changes
/// nothing: disconnecting when nobody is connected, or anything but terminating what is suspended already.
void check(const SessionClocks& clocks);

/// The rules of `clocks`, with the ttl running.
SessionClocks start_clocks(SessionClocks clocks, WallTime created_at);
/// The session became active, for the first time or again.
void note_active(SessionClocks& clocks, WallTime at);
void note_suspended(SessionClocks& clocks, WallTime at);
/// Somebody touched the session (`at` = now), or it was looked at (`at` = the verdict's quiet_since, at every look).
/// Never moves a deadline back; does nothing unless active.
void note_activity(SessionClocks& clocks, WallTime at);
/// Whether anybody is connected. Not to be called when that could not be seen.
void note_clients(SessionClocks& clocks, bool connected, WallTime at);
/// The clock's `disconnect` was carried out: it is spent until `extend` (ttl) or activity (idle) moves its deadline.
/// Suspending leaves it as it is: a ttl that suspended does so again after a resume, unless it is extended.
void note_disconnected(SessionClocks& clocks, ClockKind clock);
/// Moves the ttl's deadline; one that has passed counts from now. A session without a ttl stays without.
/// @throws Error(validation) unless `by` is above zero and the result within `maximum_ttl`.
void extend(SessionClocks& clocks, Duration by, WallTime now);

/// What would end the session in this state, first to come first; at the same time the stronger action comes first.
std::vector<ClockDeadline> deadlines(const SessionClocks& clocks, SessionState state);
/// When `expired` or `warnings` may next say something. Warnings up to `warned_until` were given.
std::optional<WallTime> next_wake(const SessionClocks& clocks, SessionState state, WallTime warned_until);
/// The first firm deadline that has passed.
std::optional<ClockDeadline> expired(const SessionClocks& clocks, SessionState state, WallTime now);
/// Firm deadlines whose time to warn came after `after` and not after `until`. Looked at in steps, each comes once.
std::vector<ClockDeadline> warnings(const SessionClocks& clocks, SessionState state, WallTime after, WallTime until);

}  // namespace infrastructure_sdk
