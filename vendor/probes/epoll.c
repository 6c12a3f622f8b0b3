/* Linux: epoll, whose set can itself be polled. */
#include <sys/epoll.h>

int main(void) { return epoll_create1(EPOLL_CLOEXEC); }
