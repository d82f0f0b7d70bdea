/**
 * The superblock: 1,024 bytes at byte 1,024 of the device, and copies at the start of some groups.
 *
 * It is parsed once into an object. Everything later computed from it (group counts, table
 * positions, hash versions) relies on the checks made here, which are the kernel's own
 * (fs/ext4/super.c, ext4_fill_super and its helpers).
 *
 * @see ext4/super.rst
 */

import { bytesAt, layout, le16, le32, u8, widthOf } from "../../base/layout.ts";
import type { GroupIndex } from "../../base/numbers.ts";
import { join32 } from "../../base/numbers.ts";
import { CorruptionError, UnsupportedError } from "../errors.ts";
import type { Crc32c } from "./checksum.ts";
import { Compat, INCOMPAT_SUPPORTED, Incompat, incompatNames, RoCompat } from "./features.ts";

// biome-ignore format: a table
export const SuperblockLayout = layout("ext4_super_block", 1024, {
  inodesCount:       [0x0, "le32"],    blocksCountLo:     [0x4, "le32"],
  rBlocksCountLo:    [0x8, "le32"],    freeBlocksCountLo: [0xc, "le32"],
  freeInodesCount:   [0x10, "le32"],   firstDataBlock:    [0x14, "le32"],
  logBlockSize:      [0x18, "le32"],   logClusterSize:    [0x1c, "le32"],
  blocksPerGroup:    [0x20, "le32"],   clustersPerGroup:  [0x24, "le32"],
  inodesPerGroup:    [0x28, "le32"],   mtime:             [0x2c, "le32"],
  wtime:             [0x30, "le32"],   mntCount:          [0x34, "le16"],
  maxMntCount:       [0x36, "le16"],   magic:             [0x38, "le16"],
  state:             [0x3a, "le16"],   errors:            [0x3c, "le16"],
  lastcheck:         [0x40, "le32"],   checkinterval:     [0x44, "le32"],
  revLevel:          [0x4c, "le32"],   defResuid:         [0x50, "le16"],
  defResgid:         [0x52, "le16"],   firstIno:          [0x54, "le32"],
  inodeSize:         [0x58, "le16"],   featureCompat:     [0x5c, "le32"],
  featureIncompat:   [0x60, "le32"],   featureRoCompat:   [0x64, "le32"],
  uuid:              [0x68, 16],       volumeName:        [0x78, 16],
  reservedGdtBlocks: [0xce, "le16"],   journalUuid:       [0xd0, 16],
  journalInum:       [0xe0, "le32"],   journalDev:        [0xe4, "le32"],
  lastOrphan:        [0xe8, "le32"],   hashSeed:          [0xec, 16],
  defHashVersion:    [0xfc, "u8"],     jnlBackupType:     [0xfd, "u8"],
  descSize:          [0xfe, "le16"],   defaultMountOpts:  [0x100, "le32"],
  firstMetaBg:       [0x104, "le32"],
  jnlBlocks:         [0x10c, 68],      blocksCountHi:     [0x150, "le32"],
  rBlocksCountHi:    [0x154, "le32"],  freeBlocksCountHi: [0x158, "le32"],
  minExtraIsize:     [0x15c, "le16"],  wantExtraIsize:    [0x15e, "le16"],
  flags:             [0x160, "le32"],  mmpUpdateInterval: [0x166, "le16"],
  mmpBlockLo:        [0x168, "le32"],  mmpBlockHi:        [0x16c, "le32"],
  logGroupsPerFlex:  [0x174, "u8"],    checksumType:      [0x175, "u8"],
  errorCount:        [0x194, "le32"],  firstErrorTime:    [0x198, "le32"],
  firstErrorIno:     [0x19c, "le32"],  firstErrorBlock:   [0x1a0, "le64"],
  firstErrorFunc:    [0x1a8, 32],      firstErrorLine:    [0x1c8, "le32"],
  lastErrorTime:     [0x1cc, "le32"],  lastErrorIno:      [0x1d0, "le32"],
  lastErrorLine:     [0x1d4, "le32"],  lastErrorBlock:    [0x1d8, "le64"],
  lastErrorFunc:     [0x1e0, 32],
  usrQuotaInum:      [0x240, "le32"],  grpQuotaInum:      [0x244, "le32"],
  overheadClusters:  [0x248, "le32"],  backupBgs0:        [0x24c, "le32"],
  backupBgs1:        [0x250, "le32"],  prjQuotaInum:      [0x26c, "le32"],
  checksumSeed:      [0x270, "le32"],
  firstErrorTimeHi:  [0x278, "u8"],    lastErrorTimeHi:   [0x279, "u8"],
  firstErrorErrcode: [0x27a, "u8"],    lastErrorErrcode:  [0x27b, "u8"],
  encoding:          [0x27c, "le16"],  encodingFlags:     [0x27e, "le16"],
  orphanFileInum:    [0x280, "le32"],  checksum:          [0x3fc, "le32"],
});

/** The bit of `s_default_mount_opts` for `grpid`. @see fs/ext4/ext4.h, EXT4_DEFM_BSDGROUPS */
const DEFAULT_BSDGROUPS = 0x2;

/** Bits of `s_state`. */
export const SuperblockState = { VALID: 0x1, ERROR: 0x2 } as const;

export const SUPER_MAGIC = 0xef53;
/** Byte offset of the primary superblock. */
export const SUPERBLOCK_OFFSET = 1024;
const CHECKSUM_CRC32C = 1;
const BLOCK_SIZE_MIN = 1024;
const LOG_BLOCK_SIZE_MAX = 6;
const LOG_CLUSTER_SIZE_MAX = 20;
/** Above it flex groups are ignored. @see fs/ext4/super.c, ext4_fill_flex_info */
const LOG_GROUPS_PER_FLEX_MAX = 31;
const GOOD_OLD_REV = 0;
/** The one of the first inodes that is everybody's: the root directory. */
const ROOT_INO = 2;
const GOOD_OLD_FIRST_INO = 11;
const GOOD_OLD_INODE_SIZE = 128;
const DESC_SIZE_MIN = 32;
const DESC_SIZE_64BIT_MIN = 64;
const DESC_SIZE_MAX = 1024;
/** `s_flags`: names are hashed as unsigned bytes. */
const FLAGS_UNSIGNED_HASH = 0x2;
/** The share of the clusters that the kernel keeps back for itself, and its most. */
const RESERVED_CLUSTERS_SHARE = 50;
const RESERVED_CLUSTERS_MAX = 4096;

/** What the superblock says, checked. Sizes are in bytes unless the name says blocks or clusters. */
export class Superblock {
  readonly blockSize: number;
  readonly blockCount: number;
  readonly reservedBlockCount: number;
  /** Who may use the reserve besides root. */
  readonly reserveUid: number;
  readonly reserveGid: number;
  /** New inodes belong to the group of their directory, unless a mount wants otherwise. */
  readonly hasBsdGroups: boolean;
  readonly firstDataBlock: number;
  /** Blocks per cluster: 1 without bigalloc. */
  readonly clusterBlocks: number;
  readonly blocksPerGroup: number;
  readonly clustersPerGroup: number;
  readonly inodeCount: number;
  readonly inodesPerGroup: number;
  readonly inodeSize: number;
  readonly firstInode: number;
  /** `i_extra_isize` of new inodes, and the least that any should have. */
  readonly wantExtraSize: number;
  readonly minExtraSize: number;
  readonly groupCount: number;
  /** Groups whose bitmaps and inode tables lie together: 1 without flex_bg. */
  readonly groupsPerFlex: number;
  readonly descriptorSize: number;
  readonly firstMetaGroup: number;
  readonly reservedGdtBlocks: number;
  /** Changed through `SuperblockEditor` alone, as are the two after it. */
  readonly features: { compat: number; incompat: number; roCompat: number };
  uuid: Uint8Array;
  volumeName: Uint8Array;
  /** Where every checksum starts. */
  readonly checksumSeed: number;
  readonly hashSeed: readonly [number, number, number, number];
  readonly hashUnsigned: boolean;
  /** The hash of new htrees, and of the order in which directories without one are listed. */
  readonly defaultHashVersion: number;
  /** Version and flags of the character encoding of case-insensitive directories. */
  readonly encoding: number;
  readonly encodingFlags: number;
  readonly journalInode: number;
  readonly journalUuid: Uint8Array;
  readonly overheadClusters: number;
  readonly mmpBlock: number;
  readonly mmpUpdateIntervalSeconds: number;
  /** The orphan file, when the ORPHAN_FILE feature is on. */
  readonly orphanFileInode: number;
  /** The head of the list of inodes without a name; 0 when there are none, or they are in a file. */
  readonly lastOrphan: number;
  readonly #backupGroups: readonly number[];
  readonly #ownInodes: readonly number[];

  /**
   * Parses and checks the 1,024 bytes under `view`.
   *
   * @param deviceSizeBytes what the image must fit into.
   * @throws UnsupportedError naming the INCOMPAT features that we do not have.
   * @throws CorruptionError when this is no ext4 superblock, or one that cannot be.
   */
  constructor(view: DataView, deviceSizeBytes: number, crc32c: Crc32c) {
    const S = SuperblockLayout;
    if (le16(view, 0, S.magic) !== SUPER_MAGIC) {
      throw new CorruptionError(
        "superblock-magic",
        { offset: S.magic },
        "not an ext2, ext3 or ext4 filesystem",
      );
    }
    const dynamic = le32(view, 0, S.revLevel) !== GOOD_OLD_REV;
    this.features = {
      compat: dynamic ? le32(view, 0, S.featureCompat) : 0,
      incompat: dynamic ? le32(view, 0, S.featureIncompat) : 0,
      roCompat: dynamic ? le32(view, 0, S.featureRoCompat) : 0,
    };
    this.uuid = bytesAt(view, 0, S.uuid, widthOf(S, "uuid")).slice();
    this.volumeName = trimmed(bytesAt(view, 0, S.volumeName, widthOf(S, "volumeName")));
    this.#verifyChecksum(view, crc32c);
    this.#refuseUnsupported();

    const refuse = (what: string): never => {
      throw new CorruptionError("superblock-geometry", {}, what);
    };
    const logBlockSize = le32(view, 0, S.logBlockSize);
    if (logBlockSize > LOG_BLOCK_SIZE_MAX) refuse(`s_log_block_size is ${logBlockSize}`);
    this.blockSize = BLOCK_SIZE_MIN << logBlockSize;

    const wide = this.hasIncompat(Incompat["64BIT"]);
    this.blockCount = join32(
      wide ? le32(view, 0, S.blocksCountHi) : 0,
      le32(view, 0, S.blocksCountLo),
    );
    this.reservedBlockCount = join32(
      wide ? le32(view, 0, S.rBlocksCountHi) : 0,
      le32(view, 0, S.rBlocksCountLo),
    );
    this.firstDataBlock = le32(view, 0, S.firstDataBlock);
    if (this.firstDataBlock >= this.blockCount || this.firstDataBlock > 1) {
      refuse(`s_first_data_block is ${this.firstDataBlock} of ${this.blockCount} blocks`);
    }
    if (this.blockCount * this.blockSize > deviceSizeBytes) {
      throw new CorruptionError(
        "superblock-size",
        {},
        `the filesystem has ${this.blockCount * this.blockSize} bytes, the device only ${deviceSizeBytes}: truncated`,
      );
    }

    this.blocksPerGroup = le32(view, 0, S.blocksPerGroup);
    const bigalloc = this.hasRoCompat(RoCompat.BIGALLOC);
    const logClusterSize = le32(view, 0, S.logClusterSize);
    if (bigalloc && (logClusterSize < logBlockSize || logClusterSize > LOG_CLUSTER_SIZE_MAX)) {
      refuse(`s_log_cluster_size is ${logClusterSize}`);
    }
    this.clusterBlocks = bigalloc ? 2 ** (logClusterSize - logBlockSize) : 1;
    this.clustersPerGroup = bigalloc ? le32(view, 0, S.clustersPerGroup) : this.blocksPerGroup;
    const bitsPerBlock = this.blockSize * 8;
    if (this.clustersPerGroup === 0 || this.clustersPerGroup > bitsPerBlock) {
      refuse(`${this.clustersPerGroup} clusters per group`);
    }
    if (this.blocksPerGroup !== this.clustersPerGroup * this.clusterBlocks) {
      refuse(`${this.blocksPerGroup} blocks per group in ${this.clustersPerGroup} clusters`);
    }

    this.inodeCount = le32(view, 0, S.inodesCount);
    this.inodesPerGroup = le32(view, 0, S.inodesPerGroup);
    this.inodeSize = dynamic ? le16(view, 0, S.inodeSize) : GOOD_OLD_INODE_SIZE;
    this.firstInode = dynamic ? le32(view, 0, S.firstIno) : GOOD_OLD_FIRST_INO;
    if (
      !isPowerOfTwo(this.inodeSize) ||
      this.inodeSize < GOOD_OLD_INODE_SIZE ||
      this.inodeSize > this.blockSize
    ) {
      refuse(`inodes of ${this.inodeSize} bytes`);
    }
    this.wantExtraSize = le16(view, 0, S.wantExtraIsize);
    this.minExtraSize = le16(view, 0, S.minExtraIsize);
    if (this.firstInode < GOOD_OLD_FIRST_INO) refuse(`s_first_ino is ${this.firstInode}`);
    const inodesPerBlock = this.blockSize / this.inodeSize;
    if (this.inodesPerGroup < inodesPerBlock || this.inodesPerGroup > bitsPerBlock) {
      refuse(`${this.inodesPerGroup} inodes per group`);
    }
    this.groupCount = Math.ceil((this.blockCount - this.firstDataBlock) / this.blocksPerGroup);
    if (this.groupCount * this.inodesPerGroup !== this.inodeCount) {
      refuse(`${this.inodeCount} inodes in ${this.groupCount} groups of ${this.inodesPerGroup}`);
    }

    const logGroupsPerFlex = u8(view, 0, S.logGroupsPerFlex);
    const isFlex =
      this.hasIncompat(Incompat.FLEX_BG) && logGroupsPerFlex <= LOG_GROUPS_PER_FLEX_MAX;
    this.groupsPerFlex = isFlex ? 2 ** logGroupsPerFlex : 1;

    this.descriptorSize = wide ? le16(view, 0, S.descSize) : DESC_SIZE_MIN;
    if (
      wide &&
      (!isPowerOfTwo(this.descriptorSize) ||
        this.descriptorSize < DESC_SIZE_64BIT_MIN ||
        this.descriptorSize > DESC_SIZE_MAX)
    ) {
      refuse(`group descriptors of ${this.descriptorSize} bytes`);
    }
    this.reserveUid = le16(view, 0, S.defResuid);
    this.reserveGid = le16(view, 0, S.defResgid);
    this.hasBsdGroups = (le32(view, 0, S.defaultMountOpts) & DEFAULT_BSDGROUPS) !== 0;
    this.reservedGdtBlocks = le16(view, 0, S.reservedGdtBlocks);
    const descriptorBlocks = Math.ceil((this.groupCount * this.descriptorSize) / this.blockSize);
    this.firstMetaGroup = this.hasIncompat(Incompat.META_BG)
      ? le32(view, 0, S.firstMetaBg)
      : descriptorBlocks;
    if (this.firstMetaGroup > descriptorBlocks) refuse(`s_first_meta_bg is ${this.firstMetaGroup}`);

    this.checksumSeed = this.hasIncompat(Incompat.CSUM_SEED)
      ? le32(view, 0, S.checksumSeed)
      : crc32c(0xffffffff, this.uuid);
    const seed = (index: number): number => view.getUint32(S.hashSeed + 4 * index, true);
    this.hashSeed = [seed(0), seed(1), seed(2), seed(3)];
    this.hashUnsigned = (le32(view, 0, S.flags) & FLAGS_UNSIGNED_HASH) !== 0;
    this.defaultHashVersion = u8(view, 0, S.defHashVersion);
    this.encoding = le16(view, 0, S.encoding);
    this.encodingFlags = le16(view, 0, S.encodingFlags);
    this.journalInode = le32(view, 0, S.journalInum);
    this.journalUuid = bytesAt(view, 0, S.journalUuid, widthOf(S, "journalUuid")).slice();
    this.overheadClusters = le32(view, 0, S.overheadClusters);
    this.mmpBlock = join32(le32(view, 0, S.mmpBlockHi), le32(view, 0, S.mmpBlockLo));
    this.mmpUpdateIntervalSeconds = le16(view, 0, S.mmpUpdateInterval);
    this.orphanFileInode = le32(view, 0, S.orphanFileInum);
    this.lastOrphan = le32(view, 0, S.lastOrphan);
    this.#ownInodes = [
      this.journalInode,
      this.orphanFileInode,
      le32(view, 0, S.usrQuotaInum),
      le32(view, 0, S.grpQuotaInum),
      le32(view, 0, S.prjQuotaInum),
    ].filter((number) => number !== ROOT_INO);
    this.#backupGroups = [le32(view, 0, S.backupBgs0), le32(view, 0, S.backupBgs1)];
  }

  hasCompat(bit: number): boolean {
    return (this.features.compat & bit) !== 0;
  }
  hasIncompat(bit: number): boolean {
    return (this.features.incompat & bit) !== 0;
  }
  hasRoCompat(bit: number): boolean {
    return (this.features.roCompat & bit) !== 0;
  }

  /** Whether inode `number` is the filesystem's own. @see fs/ext4/inode.c, is_special_ino */
  isOwnInode(number: number): boolean {
    if (number < this.firstInode) return number !== ROOT_INO;
    return this.#ownInodes.includes(number);
  }

  get metadataChecksums(): boolean {
    return this.hasRoCompat(RoCompat.METADATA_CSUM);
  }

  /** True when the journal holds changes that the filesystem proper lacks. */
  get needsRecovery(): boolean {
    return this.hasIncompat(Incompat.RECOVER);
  }

  /**
   * Clusters that the kernel keeps back for unwritten extents.
   *
   * @see fs/ext4/super.c, ext4_set_resv_clusters
   */
  get keptBackClusters(): number {
    if (!this.hasIncompat(Incompat.EXTENTS)) return 0;
    const clusters = Math.floor(this.blockCount / this.clusterBlocks);
    return Math.min(Math.floor(clusters / RESERVED_CLUSTERS_SHARE), RESERVED_CLUSTERS_MAX);
  }

  /** Whether group `group` starts with a copy of the superblock. @see ext4/blockgroup.rst */
  groupHasSuperblock(group: GroupIndex): boolean {
    if (group === 0) return true;
    if (this.hasCompat(Compat.SPARSE_SUPER2)) return this.#backupGroups.includes(group);
    if (group <= 1 || !this.hasRoCompat(RoCompat.SPARSE_SUPER)) return true;
    return isPowerOf(group, 3) || isPowerOf(group, 5) || isPowerOf(group, 7);
  }

  #verifyChecksum(view: DataView, crc32c: Crc32c): void {
    if (!this.metadataChecksums) return;
    const type = u8(view, 0, SuperblockLayout.checksumType);
    const found = crc32c(
      0xffffffff,
      new Uint8Array(view.buffer, view.byteOffset, SuperblockLayout.checksum),
    );
    const stored = le32(view, 0, SuperblockLayout.checksum);
    if (type !== CHECKSUM_CRC32C || found !== stored) {
      throw new CorruptionError(
        "superblock-checksum",
        {},
        `type ${type}, stored ${stored}, computed ${found}`,
      );
    }
  }

  #refuseUnsupported(): void {
    if (this.hasIncompat(Incompat.JOURNAL_DEV)) {
      throw new UnsupportedError(["journal_dev"], "this is an external journal, not a filesystem");
    }
    const unknown = this.features.incompat & ~INCOMPAT_SUPPORTED;
    if (unknown === 0) return;
    const names = incompatNames(unknown);
    throw new UnsupportedError(
      names,
      `unsupported feature${names.length > 1 ? "s" : ""}: ${names.join(", ")}`,
    );
  }
}

/** `bytes` up to the first zero. */
export function trimmed(bytes: Uint8Array): Uint8Array {
  const end = bytes.indexOf(0);
  return bytes.slice(0, end < 0 ? bytes.length : end);
}

function isPowerOfTwo(value: number): boolean {
  return value > 0 && (value & (value - 1)) === 0;
}

function isPowerOf(value: number, base: number): boolean {
  let power = base;
  while (power < value) power *= base;
  return power === value;
}
