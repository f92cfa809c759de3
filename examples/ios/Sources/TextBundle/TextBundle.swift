import CryptoKit
import Foundation
import LiteRT

/// manifest.json of a bundle.
struct Manifest: Decodable {
  struct Tensor: Decodable {
    let name: String
  }
  struct Signature: Decodable {
    let length: Int?
    let inputs: [Tensor]
    let outputs: [Tensor]
  }
  struct Model: Decodable {
    let file: String
    let signatures: [Signature]
  }
  struct Tokenizer: Decodable {
    let vocabulary: String?
    let pad_token_id: Int32
    let max_length: Int
    let special_tokens: [String: String]
  }
  struct File: Decodable {
    let sha256: String
  }
  let version: Int
  let model: Model
  let tokenizer: Tokenizer
  let labels: String?
  let files: [String: File]
}

/// tokenization.json of a bundle.
private struct Tokenization: Decodable {
  struct Case: Decodable {
    let text: String
    let ids: [Int32]
  }
  let cases: [Case]
}

/// A folder that keras_addnorm's `to_text_bundle` wrote, run by LiteRT: a text in, numbers out.
///
/// The numbers are an embedding, or what a classifier gives for each of `labels`. One text a call,
/// as long as it is: nothing is padded. Not for several threads at once; make one each.
final class TextBundle {
  /// The names of a classifier's outputs, in their order; empty for an embedder.
  let labels: [String]

  private let manifest: Manifest
  private let tokenizer: BertTokenizer
  private let model: CompiledModel

  /// - Parameter folder: the bundle, in the application's resources or files.
  /// - Throws: `BundleError` if a file is not what the manifest says, or the tokenizer not the
  ///   model's.
  init(folder: URL) throws {
    func read(_ name: String) throws -> Data {
      try Data(contentsOf: folder.appendingPathComponent(name))
    }
    manifest = try JSONDecoder().decode(Manifest.self, from: read("manifest.json"))
    guard manifest.version == 1, let vocabulary = manifest.tokenizer.vocabulary else {
      throw BundleError("This code reads bundles of version 1 with a WordPiece vocabulary.")
    }
    for (name, file) in manifest.files {
      guard !name.contains("/") else {
        throw BundleError("The manifest names a file outside the bundle: \(name).")
      }
      let digest = SHA256.hash(data: try read(name)).map { String(format: "%02x", $0) }.joined()
      guard digest == file.sha256 else {
        throw BundleError("\(name) is not the file that the manifest is for. Copy it anew.")
      }
    }
    func lines(_ name: String) throws -> String {
      let text = String(decoding: try read(name), as: UTF8.self)
      return text.hasSuffix("\n") ? String(text.unicodeScalars.dropLast()) : text
    }
    labels = try manifest.labels.map { try lines($0).components(separatedBy: "\n") } ?? []
    let special = manifest.tokenizer.special_tokens
    tokenizer = try BertTokenizer(
      vocabulary: lines(vocabulary),
      maxLength: manifest.tokenizer.max_length,
      unknown: special["unk_token"] ?? "[UNK]",
      start: special["cls_token"] ?? "[CLS]",
      end: special["sep_token"] ?? "[SEP]",
      special: Array(Set(special.values)))
    let cases = try JSONDecoder().decode(Tokenization.self, from: read("tokenization.json")).cases
    // A model with other ids gives numbers that mean nothing.
    if let wrong = cases.first(where: { tokenizer.encode($0.text) != $0.ids }) {
      throw BundleError("The tokenizer is not the model's: it has other ids for '\(wrong.text)'.")
    }
    let options = try Options()
    try options.setHardwareAccelerators([.cpu])
    let path = folder.appendingPathComponent(manifest.model.file).path
    model = try CompiledModel(filePath: path, environment: Environment(), options: options)
  }

  /// What the model gives for a text.
  func run(_ text: String) throws -> [Float] {
    let ids = tokenizer.encode(text)
    let fitting = manifest.model.signatures.enumerated().filter { _, signature in
      (signature.length ?? ids.count) >= ids.count
    }
    guard
      let (index, signature) = fitting.min(by: {
        ($0.element.length ?? 0) < ($1.element.length ?? 0)
      })
    else {
      throw BundleError("The model takes no \(ids.count) tokens.")
    }
    let length = signature.length ?? ids.count
    let count = try model.inputCount(signatureIndex: index)
    if signature.length == nil {
      for input in 0..<count {
        try model.resizeInputTensor(
          inputIndex: input, dimensions: [1, length], signatureIndex: index)
      }
    }
    let buffers = try model.createInputBuffers(signatureIndex: index)
    for input in 0..<count {
      let name = try model.inputName(inputIndex: input, signatureIndex: index)
      try buffers[input].write(values(of: name, ids: ids, length: length))
    }
    let outputs = try model.run(inputs: buffers, signatureIndex: index)
    return try outputs[0].read()
  }

  private func values(of name: String, ids: [Int32], length: Int) throws -> [Int32] {
    let rest = length - ids.count
    switch name {
    case "token_ids": return ids + Array(repeating: manifest.tokenizer.pad_token_id, count: rest)
    case "padding_mask":
      return Array(repeating: 1, count: ids.count) + Array(repeating: 0, count: rest)
    case "segment_ids": return Array(repeating: 0, count: length)
    default: throw BundleError("The model has an input that this code does not know: \(name).")
    }
  }
}
