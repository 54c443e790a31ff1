/* title.h - what the process list shows of this process. */
#ifndef PWS_PROC_TITLE_H
#define PWS_PROC_TITLE_H

/* Write `text` over the words of the command line, cut to their length, and `name`, cut
 * to 15 bytes, as the name of the process. Where the kernel does not say where those
 * words are, they stay. */
void pws_title_set(const char *name, const char *text);

#endif
