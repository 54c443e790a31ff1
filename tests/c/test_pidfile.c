/* Pid files: whose they are, and whose they are not. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "proc/pidfile.h"

static char dir[64], path[80], why[256];

static void
make_dir(void)
{
    snprintf(dir, sizeof(dir), "/tmp/pywsgiserve-test.XXXXXX");
    CHECK(mkdtemp(dir) != NULL);
    snprintf(path, sizeof(path), "%s/pid", dir);
}

static void
write_text(const char *text)
{
    FILE *file = fopen(path, "w");

    CHECK(file != NULL);
    fputs(text, file);
    fclose(file);
}

static long
number_there(void)
{
    long number = -1;
    FILE *file = fopen(path, "r");

    if (file != NULL) {
        CHECK(fscanf(file, "%ld\n", &number) == 1 && fgetc(file) == EOF);
        fclose(file);
    }
    return number;
}

static void
remove_dir(void)
{
    unlink(path);
    CHECK_EQ(rmdir(dir), 0);
}

TEST(it_holds_our_number_and_goes_with_us)
{
    pws_pidfile file;
    struct stat st;

    make_dir();
    CHECK_EQ(pws_pidfile_open(&file, path, why, sizeof(why)), 0);
    CHECK_EQ(number_there(), getpid());
    CHECK(stat(path, &st) == 0 && (st.st_mode & 0777) == 0644);
    pws_pidfile_close(&file);
    CHECK(access(path, F_OK) < 0);
    remove_dir();
}

TEST(what_a_dead_server_has_left_is_replaced)
{
    static const char *const texts[] = {"999999999\n", "nonsense", "", "-1\n", "0\n"};
    pws_pidfile file;

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        make_dir();
        write_text(texts[i]);
        CHECK_EQ(pws_pidfile_open(&file, path, why, sizeof(why)), 0);
        CHECK_EQ(number_there(), getpid());
        pws_pidfile_close(&file);
        remove_dir();
    }
}

TEST(that_of_a_living_process_is_respected)
{
    pws_pidfile file;
    char text[32];

    make_dir();
    snprintf(text, sizeof(text), "%ld\n", (long)getppid());
    write_text(text);
    CHECK_EQ(pws_pidfile_open(&file, path, why, sizeof(why)), -1);
    CHECK(strstr(why, "already running on PID ") != NULL);
    CHECK_EQ(number_there(), getppid());
    remove_dir();
}

TEST(one_that_is_dead_and_not_reaped_yet_does_not_count)
{
    pws_pidfile file;
    siginfo_t info;
    char text[32];
    pid_t child = fork();

    if (child == 0) {
        _exit(0);
    }
    make_dir();
    CHECK_EQ(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
    snprintf(text, sizeof(text), "%ld\n", (long)child);
    write_text(text);
    CHECK_EQ(pws_pidfile_open(&file, path, why, sizeof(why)), 0);
    CHECK_EQ(number_there(), getpid());
    pws_pidfile_close(&file);
    CHECK_EQ(waitpid(child, NULL, 0), child);
    remove_dir();
}

TEST(it_cannot_be_had_twice)
{
    pws_pidfile file, other;

    make_dir();
    CHECK_EQ(pws_pidfile_open(&file, path, why, sizeof(why)), 0);
    CHECK_EQ(pws_pidfile_open(&other, path, why, sizeof(why)), -1);
    CHECK_EQ(number_there(), getpid());
    pws_pidfile_close(&file);
    remove_dir();
}

TEST(of_many_that_start_at_once_one_has_it)
{
    enum { CROWD = 16 };
    int go[2], there[2], won = 0, status;
    char byte;

    make_dir();
    CHECK(pipe(go) == 0 && pipe(there) == 0);
    for (int i = 0; i < CROWD; i++) {
        if (fork() == 0) {
            pws_pidfile file;
            int rc;

            close(go[1]);
            (void)!read(go[0], &byte, 1);
            rc = pws_pidfile_open(&file, path, why, sizeof(why));
            (void)!write(there[1], "", 1);
            close(there[1]);
            /* Nobody ends before all have tried. */
            while (read(there[0], &byte, 1) > 0) {
            }
            _exit(rc == 0 ? 7 : 0);
        }
    }
    close(go[0]);
    close(go[1]);
    close(there[0]);
    close(there[1]);
    for (int i = 0; i < CROWD; i++) {
        CHECK(wait(&status) > 0);
        won += WIFEXITED(status) && WEXITSTATUS(status) == 7;
    }
    CHECK_EQ(won, 1);
    remove_dir();
}

TEST(a_file_that_is_not_ours_any_more_stays)
{
    pws_pidfile file;

    make_dir();
    CHECK_EQ(pws_pidfile_open(&file, path, why, sizeof(why)), 0);
    CHECK_EQ(unlink(path), 0);
    write_text("12\n");
    pws_pidfile_close(&file);
    CHECK_EQ(number_there(), 12);
    remove_dir();
}

TEST(a_child_lets_go_of_it_and_the_lock_stays)
{
    pws_pidfile file, other;
    int status;

    make_dir();
    CHECK_EQ(pws_pidfile_open(&file, path, why, sizeof(why)), 0);
    if (fork() == 0) {
        pws_pidfile_forget(&file);
        _exit(0);
    }
    CHECK(wait(&status) > 0);
    CHECK_EQ(number_there(), getpid());
    CHECK_EQ(pws_pidfile_open(&other, path, why, sizeof(why)), -1);
    pws_pidfile_close(&file);
    remove_dir();
}

TEST(what_is_no_file_is_refused)
{
    pws_pidfile file;

    make_dir();
    CHECK_EQ(symlink("/dev/null", path), 0);
    CHECK_EQ(pws_pidfile_open(&file, path, why, sizeof(why)), -1);
    CHECK_EQ(unlink(path), 0);
    CHECK_EQ(mkfifo(path, 0600), 0);
    CHECK_EQ(pws_pidfile_open(&file, path, why, sizeof(why)), -1);
    CHECK(strstr(why, "no regular file") != NULL);
    CHECK_EQ(unlink(path), 0);
    CHECK_EQ(pws_pidfile_open(&file, "/nix/pid", why, sizeof(why)), -1);
    CHECK(strstr(why, "No such file") != NULL);
    remove_dir();
}

TEST(a_file_that_is_there_is_replaced_and_not_written_into)
{
    char other[96];
    pws_pidfile file;
    struct stat st;

    make_dir();
    write_text("999999999\n");
    snprintf(other, sizeof(other), "%s/other", dir);
    CHECK_EQ(link(path, other), 0);
    CHECK_EQ(pws_pidfile_open(&file, path, why, sizeof(why)), 0);
    CHECK(stat(other, &st) == 0 && st.st_size == 10 && st.st_nlink == 1);
    pws_pidfile_close(&file);
    CHECK_EQ(unlink(other), 0);
    remove_dir(); /* and nothing else is there */
}

TEST(a_refused_one_leaves_nothing)
{
    pws_pidfile file, other;

    make_dir();
    CHECK_EQ(pws_pidfile_open(&file, path, why, sizeof(why)), 0);
    CHECK_EQ(pws_pidfile_open(&other, path, why, sizeof(why)), -1);
    pws_pidfile_close(&file);
    remove_dir();
}

TEST(it_moves_when_the_path_is_free_or_its_holder_has_died)
{
    char second[96];
    pws_pidfile file, other;

    make_dir();
    snprintf(second, sizeof(second), "%s.2", path);
    CHECK_EQ(pws_pidfile_open(&file, second, why, sizeof(why)), 0);
    CHECK_EQ(pws_pidfile_move(&file, path, why, sizeof(why)), 0);
    CHECK_EQ(number_there(), getpid());
    CHECK(access(second, F_OK) < 0);
    CHECK_EQ(pws_pidfile_open(&other, path, why, sizeof(why)), -1); /* still locked */
    pws_pidfile_close(&file);
    CHECK(access(path, F_OK) < 0);

    write_text("999999999\n");
    CHECK_EQ(pws_pidfile_open(&file, second, why, sizeof(why)), 0);
    CHECK_EQ(pws_pidfile_move(&file, path, why, sizeof(why)), 0);
    CHECK_EQ(number_there(), getpid());
    pws_pidfile_close(&file);
    remove_dir();
}

TEST(it_does_not_move_over_that_of_a_living_server)
{
    char second[96], text[32];
    pws_pidfile file;

    make_dir();
    snprintf(text, sizeof(text), "%ld\n", (long)getppid());
    write_text(text);
    snprintf(second, sizeof(second), "%s.2", path);
    CHECK_EQ(pws_pidfile_open(&file, second, why, sizeof(why)), 0);
    CHECK_EQ(pws_pidfile_move(&file, path, why, sizeof(why)), -1);
    CHECK(strstr(why, "already running") != NULL);
    CHECK_EQ(number_there(), getppid());
    pws_pidfile_close(&file);
    CHECK(access(second, F_OK) < 0);
    remove_dir();
}
