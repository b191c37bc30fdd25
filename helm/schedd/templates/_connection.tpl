{{/* How a pod of this release reaches NATS: environment, volumes and mounts; the same for daemon, apply job and test. */}}

{{- define "schedd.connectionEnv" -}}
- name: SCHEDD_NAMESPACE
  value: {{ .Values.schedd.namespace | quote }}
{{- with .Values.nats }}
{{- if .context.secretName }}
- name: NATS_CONTEXT
  value: schedd
- name: XDG_CONFIG_HOME
  value: /etc/nats/config
{{- else if .urlSecret.name }}
- name: NATS_URL
  valueFrom:
    secretKeyRef: {name: {{ .urlSecret.name }}, key: {{ .urlSecret.key }}}
{{- else }}
- name: NATS_URL
  value: {{ .url | quote }}
{{- end }}
{{- if .creds.secretName }}
- name: NATS_CREDS
  value: /etc/nats/creds/user.creds
{{- end }}
{{- if .nkey.secretName }}
- name: NATS_NKEY
  value: /etc/nats/nkey/user.nk
{{- end }}
{{- if .user.secretName }}
- name: NATS_USER
  valueFrom:
    secretKeyRef: {name: {{ .user.secretName }}, key: {{ .user.userKey }}}
- name: NATS_PASSWORD
  valueFrom:
    secretKeyRef: {name: {{ .user.secretName }}, key: {{ .user.passwordKey }}}
{{- end }}
{{- if .token.secretName }}
- name: NATS_TOKEN
  valueFrom:
    secretKeyRef: {name: {{ .token.secretName }}, key: {{ .token.key }}}
{{- end }}
{{- if .tls.ca.secretName }}
- name: NATS_CA
  value: /etc/nats/ca/ca.crt
{{- end }}
{{- if .tls.client.secretName }}
- name: NATS_CERT
  value: /etc/nats/client/tls.crt
- name: NATS_KEY
  value: /etc/nats/client/tls.key
{{- end }}
{{- end }}
{{- end -}}

{{- define "schedd.connectionVolumes" -}}
- name: tmp
  emptyDir: {sizeLimit: 64Mi}
{{- with .Values.nats }}
{{- if .context.secretName }}
- name: nats-context
  secret:
    secretName: {{ .context.secretName }}
    defaultMode: 0440
    items: [{key: {{ .context.key }}, path: schedd.json}]
{{- end }}
{{- if .creds.secretName }}
- name: nats-creds
  secret:
    secretName: {{ .creds.secretName }}
    defaultMode: 0440
    items: [{key: {{ .creds.key }}, path: user.creds}]
{{- end }}
{{- if .nkey.secretName }}
- name: nats-nkey
  secret:
    secretName: {{ .nkey.secretName }}
    defaultMode: 0440
    items: [{key: {{ .nkey.key }}, path: user.nk}]
{{- end }}
{{- if .tls.ca.secretName }}
- name: nats-ca
  secret:
    secretName: {{ .tls.ca.secretName }}
    defaultMode: 0440
    items: [{key: {{ .tls.ca.key }}, path: ca.crt}]
{{- end }}
{{- if .tls.client.secretName }}
- name: nats-client
  secret:
    secretName: {{ .tls.client.secretName }}
    defaultMode: 0440
    items:
      - {key: {{ .tls.client.certKey }}, path: tls.crt}
      - {key: {{ .tls.client.keyKey }}, path: tls.key}
{{- end }}
{{- end }}
{{- end -}}

{{- define "schedd.connectionMounts" -}}
- name: tmp
  mountPath: /tmp
{{- with .Values.nats }}
{{- if .context.secretName }}
- name: nats-context
  mountPath: /etc/nats/config/nats/context
  readOnly: true
{{- end }}
{{- if .creds.secretName }}
- name: nats-creds
  mountPath: /etc/nats/creds
  readOnly: true
{{- end }}
{{- if .nkey.secretName }}
- name: nats-nkey
  mountPath: /etc/nats/nkey
  readOnly: true
{{- end }}
{{- if .tls.ca.secretName }}
- name: nats-ca
  mountPath: /etc/nats/ca
  readOnly: true
{{- end }}
{{- if .tls.client.secretName }}
- name: nats-client
  mountPath: /etc/nats/client
  readOnly: true
{{- end }}
{{- end }}
{{- end -}}
