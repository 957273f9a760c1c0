"""The 25 faults and bad inputs, each with the outcome that it must have, and where it is shown.

#  case                                    outcome                           shown in
-- --------------------------------------- --------------------------------- ------------------
1  truncated mp4 without its index         failed                            test_files
2  truncated mkv, ts                       partial                           test_files
3  zero bytes, text                        failed: not a video               test_files
4  audio only, cover art only              failed: no video stream           test_files
5  variable frame rate                     ok, exact pts                     test_times
6  B-frames; negative, missing, equal pts  ok, presentation order            test_times
7  edit lists, discarded packets           ok, as players show it            test_times
8  rotation                                ok, displayed orientation         test_pictures
9  another size mid-stream                 ok, size of each frame            test_pictures
10 bit depths, chroma, range, odd sizes    ok, colours of the reference      test_pictures
11 corrupt packets                         partial, within a budget          test_files
12 other endings, several streams          ok, stream recorded               test_files
13 link loops, links that lead out         once; refused unless allowed      test_names
14 odd and long names                      ok, as they are                   test_names
15 permission, vanished, replaced          failed, never mixed               test_changes
16 disk full                               one line, nothing half-visible    test_processes
17 decoder or analyzer killed              as without the kill               engine/test_faults
18 CUDA out of memory; illegal access      smaller batches; process replaced test_out_of_memory,
                                                                             engine/test_supervision
19 a file that crashes or hangs a decoder  quarantined                       engine/test_supervision
20 node lost                               work moved                        chaos/test_short
21 driver killed with -9                   the next run does the rest        test_processes
22 two runs on one output                  every row once                    test_processes
23 another model, sampling, batch size     what is stale, nothing else       test_processes
24 hostile configurations, weights and ids refused, nothing runs             test_hostile
25 playlists, protocols, bombs             refused or capped, bounded memory test_references,
                                                                             test_limits

Files are named `test_*.py` in this folder where no other is given. What an object store answers
is no part of 16 here: outputs are local folders so far.
"""
