#include "base/passing.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

int
pws_pass_send(int fd, const pws_parcel *parcel)
{
    _Alignas(struct cmsghdr) char room[CMSG_SPACE(PWS_PASS_MAX * sizeof(int))];
    struct iovec part = {parcel->text, parcel->size};
    size_t size = parcel->count * sizeof(int);
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    struct cmsghdr *head;
    ssize_t n;

    if (parcel->count > PWS_PASS_MAX) {
        errno = EINVAL;
        return -1;
    }
    if (size > 0) {
        memset(room, 0, sizeof(room));
        message.msg_control = room;
        message.msg_controllen = CMSG_SPACE(size);
        head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(size);
        memcpy(CMSG_DATA(head), parcel->fds, size);
    }
    do {
        n = sendmsg(fd, &message, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -1 : 0;
}

ssize_t
pws_pass_receive(int fd, pws_parcel *parcel)
{
    _Alignas(struct cmsghdr) char room[CMSG_SPACE(PWS_PASS_MAX * sizeof(int))];
    struct iovec part = {parcel->text, parcel->size};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = room,
                             .msg_controllen = sizeof(room)};
    ssize_t n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    const struct cmsghdr *head;

    parcel->count = 0;
    parcel->lost = false;
    if (n <= 0) {
        return n;
    }
    head = CMSG_FIRSTHDR(&message);
    if (head != NULL && head->cmsg_type == SCM_RIGHTS) {
        size_t size = head->cmsg_len - CMSG_LEN(0);

        memcpy(parcel->fds, CMSG_DATA(head), size);
        parcel->count = (unsigned)(size / sizeof(int));
    }
    parcel->lost = (message.msg_flags & MSG_CTRUNC) != 0;
    return n;
}
