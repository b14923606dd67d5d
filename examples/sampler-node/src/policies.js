// The policies that pulls bring: which are at hand, and what their scalars are.

import { Policy } from './policy.js';

/** The newest policy, which collects, and the one that evaluates. */
export class Policies {
  constructor(contract) {
    this.contract = contract;
    this.newest = null;
    this.evaluating = null;
    /** Exploration values by key. */
    this.scalars = new Map();
    this.scalarsVersion = '0';
    this.modelSha256 = Buffer.alloc(0);
  }

  /** What a pull says that the sampler has. */
  have() {
    return {
      have_version: String(this.newest?.version ?? 0),
      have_model_sha256: this.modelSha256,
      have_scalars_version: this.scalarsVersion,
    };
  }

  /** The policy of a version, where it is at hand. */
  of(version) {
    return [this.newest, this.evaluating].find((policy) => policy?.version === version);
  }

  /**
   * Takes what a pull brought, which named the version `asked` (0 for the newest). A model that is
   * damaged, or none that a sampler runs, is thrown, and its version not taken.
   */
  async take(response, asked) {
    if (response.scalars_version !== this.scalarsVersion) {
      this.scalars = new Map(response.scalars.map(({ key, values }) => [key, values]));
      this.scalarsVersion = response.scalars_version;
    }
    const version = BigInt(response.version);
    if (asked !== '0' && response.version === asked) {
      this.evaluating = await this.load(response);
    } else if (version > (this.newest?.version ?? 0n)) {
      this.newest = await this.load(response);
      this.modelSha256 = response.model_sha256;
    }
  }

  async load(response) {
    // Two versions may have the same model, which then comes once.
    const isKnown = response.model === undefined && response.model_sha256.equals(this.modelSha256);
    if (isKnown) return new Policy(BigInt(response.version), this.newest.session);
    return Policy.load(this.contract, response);
  }
}
