"""What of CPython's asyncio tests does not pass on Puff's loop, with the reason of each.

Empty is the aim of FAILURES, and the state: a line there is a debt that docs/loop.md must list too.
"""

# {(3, 11): {"Class::test": why}}
FAILURES: dict[tuple[int, int], dict[str, str]] = {}

# Of classes that were written for asyncio's abstract loops: what cannot be said of a whole one.
NOT_RUN: dict[str, str] = {
    "BaseLoop.test__run_once": "fills the list _scheduled and asks the mock _selector how long",
    "BaseLoop.test__run_once_cancelled_event_cleanup": "ours keeps none",
    "BaseLoop.test__run_once_schedule_handle": "fills the list _scheduled",
    "BaseLoop.test_custom_run_forever_integration": "the mock _selector does not wait; ours does",
    "BaseLoop.test_not_implemented": "the methods that an abstract loop lacks",
    "BaseLoop.test_run_forever_pre_stopped": "asks the mock _selector",
    "BaseLoop.test_single_selecter_event_callback_after_stopping": "answers for the mock _selector",
    "PidfdChildWatcherTests.test_pidfd_closed_when_waitpid_raises": (
        "counts descriptors of a watcher that it calls itself; the first child makes our epoll set"
    ),
    "SelectorEventLoopUnixSockSendfileTests.test_sock_sendfile_not_available": "hides os.sendfile",
    "SockSendfile.test__sock_sendfile_native_failure": "the abstract loop has no sendfile(2)",
    "SockSendfile.test_sock_sendfile_no_fallback": "the abstract loop has no sendfile(2)",
    "StartTls.test_create_connection_ssl_failed_certificate_no_cycles": "of asyncio's class",
}
