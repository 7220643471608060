// What ThreadSanitizer must not report. It is compiled into the tests, so that it also holds in the children they make.

#if defined(__SANITIZE_THREAD__)

// `std::exception_ptr` counts its holders with atomics inside libstdc++.so, which is not instrumented: the release of
// the last holder looks unordered with the earlier ones. The count itself is right. An Error does not change once it is
// thrown: what can race with reading it is only that release.
extern "C" const char* __tsan_default_suppressions() {  // NOLINT(bugprone-reserved-identifier): the sanitizer's name
    return "race:std::__exception_ptr::exception_ptr::_M_release\n"
           "race:infrastructure_sdk::Error::\n";
}

#endif
