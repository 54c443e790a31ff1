/* The kernel's count of those it has killed for want of memory (proc/oom.h). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness.h"
#include "proc/oom.h"

static char folder[64], text[256];

static const char *
in_folder(const char *name)
{
    (void)snprintf(text, sizeof(text), "%s/%s", folder, name);
    return text;
}

static void
write_file(const char *name, const char *content)
{
    FILE *file = fopen(in_folder(name), "w");

    CHECK(file != NULL);
    CHECK(fputs(content, file) >= 0);
    CHECK_EQ(fclose(file), 0);
}

static void
make(const char *name)
{
    CHECK_EQ(mkdir(in_folder(name), 0755), 0);
}

static void
open_folder(void)
{
    strcpy(folder, "/tmp/pws-oom-XXXXXX");
    CHECK(mkdtemp(folder) != NULL);
}

static void
close_folder(void)
{
    char command[128];

    (void)snprintf(command, sizeof(command), "rm -r '%s'", folder);
    CHECK_EQ(system(command), 0);
}

static void
open_oom(pws_oom *oom)
{
    char self[256];

    (void)snprintf(self, sizeof(self), "%s", in_folder("self"));
    pws_oom_open(oom, self, folder);
}

TEST(version_2_has_it_in_memory_events)
{
    pws_oom oom;
    int64_t before;

    open_folder();
    make("a");
    make("a/b");
    write_file("self", "0::/a/b\n");
    write_file("a/b/memory.events", "low 0\noom 7\noom_kill 3\noom_group_kill 0\n");
    open_oom(&oom);
    CHECK_EQ(oom.count, 3);
    write_file("a/b/memory.events", "oom_kill 4\n");
    CHECK_EQ(pws_oom_read(&oom, &before), 4);
    CHECK_EQ(before, 3);
    CHECK_EQ(pws_oom_read(&oom, &before), 4);
    CHECK_EQ(before, 4);
    close_folder();
}

TEST(a_container_may_see_its_own_cgroup_as_the_root)
{
    pws_oom oom;

    open_folder();
    write_file("self", "0::/kubepods/pod1/x\n");
    write_file("memory.events", "oom_kill 12\n");
    open_oom(&oom);
    CHECK_EQ(oom.count, 12);
    close_folder();
}

TEST(version_1_has_it_in_memory_oom_control)
{
    pws_oom oom;

    open_folder();
    make("memory");
    make("memory/x");
    write_file("self",
               "9:name=systemd:/\n5:cpu,cpuacct:/\n4:hugetlb,memory:/x\n0::/\n");
    write_file("memory/x/memory.oom_control",
               "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n");
    open_oom(&oom);
    CHECK_EQ(oom.count, 5);
    close_folder();
}

TEST(where_nothing_can_be_read_there_is_no_count)
{
    static const char *const selves[] = {"",
                                         "0::/\n",
                                         "nothing",
                                         "1:memory\n::\n:::",
                                         "4:notmemory:/\n",
                                         "4:memory:/nowhere\n"};
    pws_oom oom;
    int64_t before;

    open_folder();
    pws_oom_open(&oom, in_folder("self"), folder);
    CHECK_EQ(oom.count, -1);
    for (size_t i = 0; i < sizeof(selves) / sizeof(selves[0]); i++) {
        write_file("self", selves[i]);
        open_oom(&oom);
        CHECK_EQ(oom.count, -1);
        CHECK_EQ(pws_oom_read(&oom, &before), -1);
        CHECK_EQ(before, -1);
    }
    write_file("self", "0::/\n");
    write_file("memory.events", "oom 1\nan oom_kill 2\n"); /* as of an old kernel */
    open_oom(&oom);
    CHECK_EQ(oom.count, -1);
    close_folder();
}

TEST(a_file_that_goes_away_is_no_count_any_more)
{
    pws_oom oom;
    int64_t before;

    open_folder();
    write_file("self", "0::/\n");
    write_file("memory.events", "oom_kill 1\n");
    open_oom(&oom);
    CHECK_EQ(unlink(in_folder("memory.events")), 0);
    CHECK_EQ(pws_oom_read(&oom, &before), -1);
    CHECK_EQ(before, 1);
    close_folder();
}

TEST(a_path_that_is_too_long_is_not_cut)
{
    static char self[3000];
    pws_oom oom;

    open_folder();
    memset(self, 'a', sizeof(self) - 1);
    memcpy(self, "0::/", 4);
    write_file("self", self);
    open_oom(&oom);
    CHECK_EQ(oom.count, -1);
    close_folder();
}
