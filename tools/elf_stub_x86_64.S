# First code of a packed executable: ld.so calls it in place of Deno's entry point, to which it goes on.
#
# State at entry (System V AMD64 ABI, process initialisation): rsp -> argc, argv[], 0, envp[], 0, auxv[];
# rdx = what _start has to register with atexit. libc is relocated and knows its environment; none of Deno's code has
# run. The packer lays `params` right behind this code (elf.ts, which also says what the fields are).
#
#   0. started by root as the agent: give up what the agent does not need, while there is one thread to do it
#      (agent/privileges.ts does the same by executing itself again, where this has not been done)
#   1. set the environment variables
#   2. write the program into a sealed memory file
#   3. write down the path of that file
#   4. insert Deno's own arguments after argv[0], the path as the last
#   5. go on at Deno's entry point
#
# r12 = rdx at entry, rbx = params, r13 = the strings still to be used; ebp = the memory file

        .intel_syntax noprefix
        .text

        .set SYS_write, 1
        .set SYS_close, 3
        .set SYS_mmap, 9
        .set SYS_fcntl, 72
        .set SYS_geteuid, 107
        .set SYS_capget, 125
        .set SYS_capset, 126
        .set SYS_prctl, 157
        .set SYS_exit_group, 231
        .set SYS_memfd_create, 319
        .set EINVAL, 22
        .set MFD_CLOEXEC, 1
        .set MFD_ALLOW_SEALING, 2
        .set MFD_NOEXEC_SEAL, 8
        .set F_DUPFD_CLOEXEC, 1030
        .set F_ADD_SEALS, 1033
        .set ALL_SEALS, 0xf             # SEAL, SHRINK, GROW, WRITE
        .set PR_CAPBSET_DROP, 24
        .set PR_SET_NO_NEW_PRIVS, 38
        .set LINUX_CAPABILITY_VERSION_3, 0x20080522
        # CAP_NET_ADMIN 12, CAP_NET_RAW 13, CAP_BPF 39: START_CAPABILITIES of agent/privileges.ts
        .set KEPT_LOW, 0x3000
        .set KEPT_HIGH, 0x80
        .set CAPABILITIES, 64           # more than there are
        .set RUN, 0x006e7572            # the string "run"
        .set PROT_READ_WRITE, 3
        .set MAP_PRIVATE_ANONYMOUS, 0x22
        .set PAGE, 4096

        # Fields of params. Places are relative to params itself, since the file may be loaded anywhere.
        .set ENTRY, 0                   # Deno's entry point
        .set SETENV, 8                  # the slot that holds the address of libc's setenv
        .set PROGRAM, 16                # the program
        .set PROGRAM_LENGTH, 24
        .set ARGUMENTS, 32              # how many arguments to insert, the path included; even, so that rsp stays aligned
        .set STRINGS, 40                # name, value, ... , empty string, arguments without the path

start:
        mov     r12, rdx
        lea     rbx, params[rip]

        # 0. Without a command, or with "run" or an option in its place, this is the agent. What the kernel refuses, as to
        # somebody who may not give up anything, the agent finds out itself.
        cmp     qword ptr [rsp], 2
        jb      is_agent
        mov     rsi, [rsp + 16]
        cmp     byte ptr [rsi], '-'
        je      is_agent
        cmp     dword ptr [rsi], RUN
        jne     rights_settled
is_agent:
        mov     eax, SYS_geteuid
        syscall
        test    eax, eax
        jnz     rights_settled
        mov     edi, PR_SET_NO_NEW_PRIVS
        mov     esi, 1
        xor     edx, edx
        xor     r10d, r10d
        xor     r8d, r8d
        mov     eax, SYS_prctl
        syscall
        mov     r15, (KEPT_HIGH << 32) | KEPT_LOW
        xor     r14d, r14d
next_capability:
        bt      r15, r14
        jc      capability_settled
        mov     edi, PR_CAPBSET_DROP
        mov     esi, r14d
        mov     eax, SYS_prctl
        syscall
capability_settled:
        inc     r14d
        cmp     r14d, CAPABILITIES
        jb      next_capability

        # A header, then effective, permitted and inheritable sets, of capabilities 0 to 31 and of the others.
        sub     rsp, 32
        mov     dword ptr [rsp], LINUX_CAPABILITY_VERSION_3
        mov     dword ptr [rsp + 4], 0
        mov     rdi, rsp
        lea     rsi, [rsp + 8]
        mov     eax, SYS_capget
        syscall
        and     dword ptr [rsp + 8], KEPT_LOW
        and     dword ptr [rsp + 12], KEPT_LOW
        mov     dword ptr [rsp + 16], 0
        and     dword ptr [rsp + 20], KEPT_HIGH
        and     dword ptr [rsp + 24], KEPT_HIGH
        mov     dword ptr [rsp + 28], 0
        test    eax, eax
        jnz     capabilities_set
        mov     eax, SYS_capset
        syscall
capabilities_set:
        add     rsp, 32
rights_settled:

        # 1. setenv may be called before _start: ld.so has made libc ready, and it needs no more than malloc.
        lea     r13, [rbx + STRINGS]
        mov     r14, [rbx + SETENV]
next_variable:
        cmp     byte ptr [r13], 0
        je      variables_set
        mov     rbp, r13
        mov     rdi, r13
        call    skip_string
        mov     r15, rdi
        call    skip_string
        mov     r13, rdi
        mov     rdi, rbp
        mov     rsi, r15
        mov     edx, 1
        call    [rbx + r14]
        test    eax, eax
        jnz     fail
        jmp     next_variable
variables_set:
        inc     r13

        # 2. Kernels before 6.3 do not know MFD_NOEXEC_SEAL.
        mov     esi, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL
create_file:
        lea     rdi, file_name[rip]
        mov     eax, SYS_memfd_create
        syscall
        cmp     eax, -EINVAL
        jne     file_created
        test    esi, MFD_NOEXEC_SEAL
        jz      fail
        xor     esi, MFD_NOEXEC_SEAL
        jmp     create_file
file_created:
        test    eax, eax
        js      fail

        # The caller may have closed a standard stream; the program must not take its number.
        mov     r14d, eax
        mov     edi, eax
        mov     esi, F_DUPFD_CLOEXEC
        mov     edx, 3
        mov     eax, SYS_fcntl
        syscall
        test    eax, eax
        js      fail
        mov     ebp, eax
        mov     edi, r14d
        mov     eax, SYS_close
        syscall

        mov     rsi, [rbx + PROGRAM]
        add     rsi, rbx
        mov     r14, [rbx + PROGRAM_LENGTH]
write_more:
        mov     edi, ebp
        mov     rdx, r14
        mov     eax, SYS_write
        syscall
        test    rax, rax
        jle     fail
        add     rsi, rax
        sub     r14, rax
        jnz     write_more

        # Nobody may change the program from now on. Without seals it works as well, so a refusal does not matter.
        mov     edi, ebp
        mov     esi, F_ADD_SEALS
        mov     edx, ALL_SEALS
        mov     eax, SYS_fcntl
        syscall

        # 3. The path has to outlive this code, so it gets a page of its own, filled from the end.
        xor     edi, edi
        mov     esi, PAGE
        mov     edx, PROT_READ_WRITE
        mov     r10d, MAP_PRIVATE_ANONYMOUS
        mov     r8, -1
        xor     r9d, r9d
        mov     eax, SYS_mmap
        syscall
        cmp     rax, -PAGE
        ja      fail
        lea     rdi, [rax + PAGE - 1]
        mov     eax, ebp
        mov     ecx, 10
next_digit:
        xor     edx, edx
        div     ecx
        add     edx, '0'
        dec     rdi
        mov     [rdi], dl
        test    eax, eax
        jnz     next_digit
        mov     rax, qword ptr path_tail[rip]
        mov     [rdi - 8], rax
        mov     rax, qword ptr path_head[rip]
        mov     [rdi - 14], rax
        lea     r15, [rdi - 14]

        # 4. argc and argv[0] move down; the rest of argv, envp and auxv stay where libc has found them already.
        mov     r10, [rbx + ARGUMENTS]
        mov     rdx, [rsp]
        mov     rsi, [rsp + 8]
        lea     rax, [r10 * 8]
        sub     rsp, rax
        add     rdx, r10
        mov     [rsp], rdx
        mov     [rsp + 8], rsi
        lea     rsi, [rsp + 16]
        mov     rdi, r13
insert_argument:
        dec     r10
        jz      insert_path
        mov     [rsi], rdi
        add     rsi, 8
        call    skip_string
        jmp     insert_argument
insert_path:
        mov     [rsi], r15

        # 5.
        mov     rdx, r12
        add     rbx, [rbx + ENTRY]
        jmp     rbx

# rdi = a string -> rdi = what follows it; changes eax and rcx
skip_string:
        xor     eax, eax
        mov     rcx, -1
        repne scasb
        ret

fail:
        mov     edi, 2
        lea     rsi, failure[rip]
        mov     edx, OFFSET failure_end - failure
        mov     eax, SYS_write
        syscall
        mov     edi, 1
        mov     eax, SYS_exit_group
        syscall

path_head:
        .ascii  "/proc/se"              # overlaps the tail: /proc/self/fd/
path_tail:
        .ascii  "self/fd/"
file_name:
        .asciz  "shim6-agent"
failure:
        .ascii  "shim6-agent: the kernel refused the memory file that holds the program\n"
failure_end:
        .balign 8
params:
